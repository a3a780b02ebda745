import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.math.BigDecimal;
import java.util.Properties;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.RichFlatMapFunction;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.connector.jdbc.JdbcConnectionOptions;
import org.apache.flink.connector.jdbc.JdbcExactlyOnceOptions;
import org.apache.flink.connector.jdbc.JdbcExecutionOptions;
import org.apache.flink.connector.jdbc.JdbcStatementBuilder;
import org.apache.flink.connector.jdbc.core.datastream.sink.JdbcSink;
import org.apache.flink.connector.jdbc.core.datastream.sink.JdbcSinkBuilder;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.util.Collector;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.postgresql.xa.PGXADataSource;

/**
 * The peer's order job into a table of PostgreSQL: Kafka JSON, drop orders with quantity 0 or less,
 * add their total, insert. Arguments: those of OrdersJob, where the output is the table; the JDBC
 * URL; `TwoPhaseCommit` (XA transactions) or `Upsert` (ON CONFLICT).
 */
public final class TablesJob {
  private TablesJob() {}

  /** One row of the table. */
  public static final class Row {
    public String orderId;
    public String customerId;
    public long quantity;
    public BigDecimal price;
    public long ts;
    public BigDecimal total;
  }

  /** Parses, filters and enriches one order. */
  static final class Enrich extends RichFlatMapFunction<byte[], Row> {
    private transient ObjectMapper mapper;

    @Override
    public void flatMap(byte[] record, Collector<Row> out) throws Exception {
      if (mapper == null) {
        mapper = new ObjectMapper();
      }
      JsonNode order = mapper.readTree(record);
      Row row = new Row();
      row.quantity = order.get("quantity").asLong();
      row.price = order.get("price").decimalValue();
      if (row.quantity <= 0 || row.price.signum() <= 0) {
        return;
      }
      row.orderId = order.get("order_id").asText();
      row.customerId = order.get("customer_id").asText();
      row.ts = order.get("ts").asLong();
      row.total = row.price.multiply(BigDecimal.valueOf(row.quantity));
      out.collect(row);
    }
  }

  private static final String UPSERT =
      " ON CONFLICT (order_id) DO UPDATE SET customer_id = EXCLUDED.customer_id,"
          + " quantity = EXCLUDED.quantity, price = EXCLUDED.price, ts = EXCLUDED.ts,"
          + " total = EXCLUDED.total";

  private static Sink<Row> sink(String table, String url, String mode) {
    String insert =
        "INSERT INTO " + table + " (order_id, customer_id, quantity, price, ts, total)"
            + " VALUES (?, ?, ?, ?, ?, ?)";
    JdbcStatementBuilder<Row> fill =
        (statement, row) -> {
          statement.setString(1, row.orderId);
          statement.setString(2, row.customerId);
          statement.setLong(3, row.quantity);
          statement.setBigDecimal(4, row.price);
          statement.setLong(5, row.ts);
          statement.setBigDecimal(6, row.total);
        };
    boolean isUpsert = mode.equals("Upsert");
    JdbcExecutionOptions batches =
        JdbcExecutionOptions.builder()
            .withBatchSize(5000)
            .withBatchIntervalMs(isUpsert ? 1000 : 0)
            .withMaxRetries(isUpsert ? 3 : 0)
            .build();
    JdbcSinkBuilder<Row> builder =
        JdbcSink.<Row>builder()
            .withExecutionOptions(batches)
            .withQueryStatement(isUpsert ? insert + UPSERT : insert, fill);
    if (isUpsert) {
      return builder.buildAtLeastOnce(
          new JdbcConnectionOptions.JdbcConnectionOptionsBuilder()
              .withUrl(url)
              .withDriverName("org.postgresql.Driver")
              .withUsername("postgres")
              .build());
    }
    // PostgreSQL lets a connection have one transaction at a time.
    JdbcExactlyOnceOptions exact =
        JdbcExactlyOnceOptions.builder().withTransactionPerConnection(true).build();
    return builder.buildExactlyOnce(
        exact,
        () -> {
          PGXADataSource source = new PGXADataSource();
          source.setUrl(url);
          source.setUser("postgres");
          return source;
        });
  }

  public static void main(String[] args) throws Exception {
    StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
    env.setParallelism(Integer.parseInt(args[6]));
    env.enableCheckpointing(Long.parseLong(args[3]));
    env.getConfig().enableObjectReuse();
    Properties properties = new Properties();
    properties.setProperty("isolation.level", "read_committed");
    KafkaSource<byte[]> source =
        KafkaSource.<byte[]>builder()
            .setBootstrapServers(args[0])
            .setTopics(args[1])
            .setGroupId(args[5])
            .setStartingOffsets(OffsetsInitializer.earliest())
            .setProperties(properties)
            .setDeserializer(KafkaRecordDeserializationSchema.valueOnly(ByteArrayDeserializer.class))
            .build();
    env.fromSource(source, WatermarkStrategy.noWatermarks(), "orders")
        .flatMap(new Enrich())
        .returns(Row.class)
        .sinkTo(sink(args[2].replace('-', '_'), args[7], args[8]));
    env.execute("tables");
  }
}
