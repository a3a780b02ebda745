import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.math.BigDecimal;
import java.util.Properties;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichMapFunction;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.util.Collector;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * The peer's keyed job: Kafka JSON, number and sum of the orders of every customer, Kafka upserts.
 * Arguments: bootstrap servers, input topic, output topic, checkpoint interval in ms, EXACTLY_ONCE
 * or AT_LEAST_ONCE, transactional id prefix, parallelism, state backend (hashmap or rocksdb), and
 * datastream, sql or sql-mini-batch.
 */
public final class KeyedJob {
  private KeyedJob() {}

  /** Parses one order. */
  static final class Parse extends RichMapFunction<byte[], Tuple2<String, BigDecimal>> {
    private transient ObjectMapper mapper;

    @Override
    public Tuple2<String, BigDecimal> map(byte[] record) throws Exception {
      if (mapper == null) {
        mapper = new ObjectMapper();
      }
      JsonNode order = mapper.readTree(record);
      return Tuple2.of(order.get("customer_id").asText(), order.get("price").decimalValue());
    }
  }

  /** Counts and sums the orders of a customer. */
  static final class Sum
      extends KeyedProcessFunction<String, Tuple2<String, BigDecimal>, Tuple2<byte[], byte[]>> {
    private transient ObjectMapper mapper;
    private transient ValueState<Tuple2<Long, BigDecimal>> state;

    @Override
    public void open(OpenContext context) {
      mapper = new ObjectMapper();
      state =
          getRuntimeContext()
              .getState(
                  new ValueStateDescriptor<>("sum", Types.TUPLE(Types.LONG, Types.BIG_DEC)));
    }

    @Override
    public void processElement(
        Tuple2<String, BigDecimal> order, Context context, Collector<Tuple2<byte[], byte[]>> out)
        throws Exception {
      Tuple2<Long, BigDecimal> sum = state.value();
      sum = sum == null ? Tuple2.of(1L, order.f1) : Tuple2.of(sum.f0 + 1, sum.f1.add(order.f1));
      state.update(sum);
      ObjectNode row = mapper.createObjectNode().put("customer_id", order.f0);
      byte[] key = mapper.writeValueAsBytes(row);
      byte[] value = mapper.writeValueAsBytes(row.put("n", sum.f0).put("total", sum.f1));
      out.collect(Tuple2.of(key, value));
    }
  }

  /** A class and not a lambda: Flink 2.2 asks for its type. */
  static final class Key implements SerializationSchema<Tuple2<byte[], byte[]>> {
    @Override
    public byte[] serialize(Tuple2<byte[], byte[]> record) {
      return record.f0;
    }
  }

  /** The other half of the record. */
  static final class Value implements SerializationSchema<Tuple2<byte[], byte[]>> {
    @Override
    public byte[] serialize(Tuple2<byte[], byte[]> record) {
      return record.f1;
    }
  }

  private static void dataStream(StreamExecutionEnvironment env, String[] args) throws Exception {
    KafkaSource<byte[]> source =
        KafkaSource.<byte[]>builder()
            .setBootstrapServers(args[0])
            .setTopics(args[1])
            .setGroupId(args[5])
            .setStartingOffsets(OffsetsInitializer.earliest())
            .setProperty("isolation.level", "read_committed")
            .setDeserializer(KafkaRecordDeserializationSchema.valueOnly(ByteArrayDeserializer.class))
            .build();
    Properties producer = new Properties();
    producer.setProperty("transaction.timeout.ms", "600000");
    KafkaSink<Tuple2<byte[], byte[]>> sink =
        KafkaSink.<Tuple2<byte[], byte[]>>builder()
            .setBootstrapServers(args[0])
            .setKafkaProducerConfig(producer)
            .setDeliveryGuarantee(DeliveryGuarantee.valueOf(args[4]))
            .setTransactionalIdPrefix(args[5])
            .setRecordSerializer(
                KafkaRecordSerializationSchema.<Tuple2<byte[], byte[]>>builder()
                    .setTopic(args[2])
                    .setKeySerializationSchema(new Key())
                    .setValueSerializationSchema(new Value())
                    .build())
            .build();
    TypeInformation<byte[]> bytes = TypeInformation.of(byte[].class);
    env.fromSource(source, WatermarkStrategy.noWatermarks(), "orders")
        .map(new Parse())
        .returns(Types.TUPLE(Types.STRING, Types.BIG_DEC))
        .keyBy(order -> order.f0, Types.STRING)
        .process(new Sum())
        .returns(Types.TUPLE(bytes, bytes))
        .sinkTo(sink);
    env.execute("keyed");
  }

  private static void sql(StreamExecutionEnvironment env, String[] args) {
    StreamTableEnvironment tables = StreamTableEnvironment.create(env);
    if (args[8].equals("sql-mini-batch")) {
      tables.getConfig().set("table.exec.mini-batch.enabled", "true");
      tables.getConfig().set("table.exec.mini-batch.allow-latency", "1 s");
      tables.getConfig().set("table.exec.mini-batch.size", "20000");
    }
    tables.executeSql(
        "CREATE TABLE orders (customer_id STRING, price DECIMAL(12, 2)) WITH ("
            + "'connector' = 'kafka', 'format' = 'json', 'scan.startup.mode' = 'earliest-offset',"
            + String.format("'properties.bootstrap.servers' = '%s',", args[0])
            + String.format("'topic' = '%s', 'properties.group.id' = '%s',", args[1], args[5])
            + "'properties.isolation.level' = 'read_committed')");
    String guarantee = args[4].toLowerCase().replace('_', '-');
    tables.executeSql(
        "CREATE TABLE sums (customer_id STRING, n BIGINT, total DECIMAL(38, 2),"
            + " PRIMARY KEY (customer_id) NOT ENFORCED) WITH ("
            + "'connector' = 'upsert-kafka', 'key.format' = 'json', 'value.format' = 'json',"
            + "'value.json.encode.decimal-as-plain-number' = 'true',"
            + String.format("'properties.bootstrap.servers' = '%s',", args[0])
            + String.format("'topic' = '%s', 'sink.delivery-guarantee' = '%s',", args[2], guarantee)
            + String.format("'sink.transactional-id-prefix' = '%s',", args[5])
            + "'properties.transaction.timeout.ms' = '600000')");
    tables.executeSql(
        "INSERT INTO sums SELECT customer_id, COUNT(*) AS n, SUM(price) AS total"
            + " FROM orders GROUP BY customer_id");
  }

  public static void main(String[] args) throws Exception {
    Configuration settings = new Configuration();
    settings.setString("state.backend.type", args[7]);
    settings.setString("execution.checkpointing.incremental", "true");
    StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment(settings);
    env.setParallelism(Integer.parseInt(args[6]));
    env.enableCheckpointing(Long.parseLong(args[3]));
    env.getConfig().enableObjectReuse();
    if (args[8].equals("datastream")) {
      dataStream(env, args);
    } else {
      sql(env, args);
    }
  }
}
