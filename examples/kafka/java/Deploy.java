import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Asks Triton for a release over Kafka, and prints the answers until it is over.
 *
 * <pre>java -cp 'libs/*' Deploy.java 20005-shop-10010 shop:1.0</pre>
 */
public class Deploy {
    static final String COMMANDS = "triton.deploy-commands";
    static final String REPLIES = "paas.replies";

    public static void main(String[] args) throws Exception {
        String instance = args[0];
        String image = args[1];
        String id = UUID.randomUUID().toString();
        String key = "default/" + instance;
        String command = """
            {"id": "%s", "type": "deploy", "namespace": "default", "requestedBy": "paas", "replyTo": "%s",
             "spec": {
               "action": "create",
               "application": {
                 "appID": 20005, "groupID": 10010, "appName": "shop", "instanceName": "%s", "replicas": 2,
                 "template": {"spec": {"containers": [{"name": "shop", "image": "%s"}]}}
               },
               "updateStrategy": {"batchSize": 1, "mode": "auto"}
             }}
            """.formatted(id, REPLIES, instance, image);
        Map<String, String> headers = Map.of(
            "content-type", "application/json",
            "ce_specversion", "1.0",
            "ce_id", id,
            "ce_type", "com.example.paas.deploy",
            "ce_source", "/paas",
            "ce_subject", key,
            "ce_time", Instant.now().toString());

        Properties kafka = new Properties();
        kafka.put("bootstrap.servers", System.getenv().getOrDefault("TRITON_KAFKA_BOOTSTRAP", "127.0.0.1:9092"));
        try (var replies = new KafkaConsumer<>(kafka, new StringDeserializer(), new StringDeserializer());
             var producer = new KafkaProducer<>(kafka, new StringSerializer(), new StringSerializer())) {
            // a program that goes on running reads its answers in a group of its own instead
            List<TopicPartition> partitions = replies.partitionsFor(REPLIES).stream()
                .map(found -> new TopicPartition(found.topic(), found.partition())).toList();
            replies.assign(partitions);
            replies.seekToBeginning(partitions);

            var record = new ProducerRecord<>(COMMANDS, key, command);
            headers.forEach((name, value) -> record.headers().add(name, value.getBytes(StandardCharsets.UTF_8)));
            producer.send(record).get();

            while (true) {
                for (ConsumerRecord<String, String> reply : replies.poll(Duration.ofSeconds(1))) {
                    if (!id.equals(reply.key())) {
                        continue;
                    }
                    System.out.println(reply.value());
                    String event = new String(reply.headers().lastHeader("ce_id").value(), StandardCharsets.UTF_8);
                    if (!event.equals(id + ":accepted")) {
                        return;
                    }
                }
            }
        }
    }
}
