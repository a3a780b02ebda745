import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.math.BigDecimal;
import java.util.Properties;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.RichFlatMapFunction;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.util.Collector;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * The peer's order job: Kafka JSON, drop orders with quantity 0 or less, add their total, Kafka
 * JSON. Arguments: bootstrap servers, input topic, output topic, checkpoint interval in ms,
 * EXACTLY_ONCE or AT_LEAST_ONCE, transactional id prefix, parallelism.
 */
public final class OrdersJob {
  private OrdersJob() {}

  /** Parses, filters and enriches one order. */
  static final class Enrich extends RichFlatMapFunction<byte[], byte[]> {
    private transient ObjectMapper mapper;

    @Override
    public void flatMap(byte[] record, Collector<byte[]> out) throws Exception {
      if (mapper == null) {
        mapper = new ObjectMapper();
      }
      JsonNode order = mapper.readTree(record);
      long quantity = order.get("quantity").asLong();
      BigDecimal price = order.get("price").decimalValue();
      if (quantity <= 0 || price.signum() <= 0) {
        return;
      }
      ((ObjectNode) order).put("total", price.multiply(BigDecimal.valueOf(quantity)));
      out.collect(mapper.writeValueAsBytes(order));
    }
  }

  /** A class and not a lambda: Flink 2.2 asks for its type. */
  static final class AsTheyAre implements SerializationSchema<byte[]> {
    @Override
    public byte[] serialize(byte[] bytes) {
      return bytes;
    }
  }

  public static void main(String[] args) throws Exception {
    StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
    env.setParallelism(Integer.parseInt(args[6]));
    env.enableCheckpointing(Long.parseLong(args[3]));
    env.getConfig().enableObjectReuse();
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
    KafkaSink<byte[]> sink =
        KafkaSink.<byte[]>builder()
            .setBootstrapServers(args[0])
            .setKafkaProducerConfig(producer)
            .setDeliveryGuarantee(DeliveryGuarantee.valueOf(args[4]))
            .setTransactionalIdPrefix(args[5])
            .setRecordSerializer(
                KafkaRecordSerializationSchema.<byte[]>builder()
                    .setTopic(args[2])
                    .setValueSerializationSchema(new AsTheyAre())
                    .build())
            .build();
    env.fromSource(source, WatermarkStrategy.noWatermarks(), "orders")
        .flatMap(new Enrich())
        .returns(TypeInformation.of(byte[].class))
        .sinkTo(sink);
    env.execute("orders");
  }
}
