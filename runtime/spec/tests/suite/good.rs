//! What a job file becomes.

use std::path::Path;

use millstream_spec::connector::DeliveryGuarantee;
use millstream_spec::valid::{Input, SinkConnector, SourceConnector};
use millstream_spec::{Format, Retention, read, read_bytes};
use millstream_types::schema::ColumnType;

use super::{ORDERS, expect_file, refusal};

fn testdata(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(name)
}

#[test]
fn the_example_becomes_this_job() {
    let job = read(ORDERS, "orders.yaml").unwrap();
    expect_file(&testdata("orders.job.txt"), &format!("{job:#?}\n"));
}

#[test]
fn a_file_with_many_faults_is_refused_with_this_text() {
    let text = std::fs::read_to_string(testdata("faulty.yaml")).unwrap();
    let error = read(&text, "faulty.yaml").unwrap_err();
    expect_file(&testdata("faulty.txt"), &format!("{error}\n"));
}

#[test]
fn transforms_come_after_what_they_read() {
    let job = read(ORDERS, "orders.yaml").unwrap();
    let names: Vec<&str> = job
        .transforms
        .iter()
        .map(|node| node.name.as_str())
        .collect();
    assert_eq!(names, ["valid", "enriched"]);
    assert_eq!(job.transforms[1].inputs, [Input::Main("valid".to_owned())]);
    assert_eq!(
        job.sinks[1].inputs,
        [Input::DeadLetters("orders".to_owned())]
    );
}

#[test]
fn what_is_left_out_has_its_default() {
    let job = read(
        "
apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {name: small}
spec:
  checkpoint: {storage: 'file:///tmp/small'}
  dataflow:
    sources: [{name: orders, generator: {}}]
    sinks: [{name: out, input: orders, print: {}}]
",
        "small.yaml",
    )
    .unwrap();
    assert_eq!(job.id.to_string(), "default/small");
    assert_eq!(job.identity, None);
    assert_eq!(job.parallelism, 1);
    assert!(job.operator_chaining);
    assert_eq!(job.checkpoint.interval.to_string(), "10s");
    assert_eq!(job.checkpoint.timeout.to_string(), "1m");
    assert_eq!(job.sinks[0].checkpoint, job.checkpoint);
    let SourceConnector::Generator(generator) = &job.sources[0].connector else {
        panic!("not a generator");
    };
    assert_eq!(generator.splits, 4);
    let columns: Vec<&str> = job.sources[0]
        .schema
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    assert_eq!(
        columns,
        ["order_id", "customer_id", "quantity", "price", "ts"]
    );
}

#[test]
fn a_raw_source_has_one_text_column() {
    let text = ORDERS
        .replace(
            "format: {json: {}}\n      schema:",
            "format: {raw: {}}\n      unused:",
        )
        .lines()
        .filter(|line| {
            !line.contains("type: ") && !line.contains("unused") && !line.contains("watermark")
        })
        .collect::<Vec<_>>()
        .join("\n");
    let job = read(&text, "raw.yaml").unwrap();
    let source = &job.sources[0];
    assert!(matches!(source.format, Format::Raw(_)));
    assert_eq!(source.schema.len(), 1);
    assert_eq!(source.schema[0].name, "value");
    assert_eq!(source.schema[0].column_type, ColumnType::String);
}

#[test]
fn the_operator_s_keys_are_not_looked_at() {
    let text = ORDERS.replace(
        "  workers: {slots: 2}",
        "  workers: {slots: many, x: [1]}\n  paused: perhaps\n  upgrade:\nstatus: {state: Running}",
    );
    assert_eq!(
        read(&text, "a.yaml").unwrap(),
        read(ORDERS, "b.yaml").unwrap()
    );
}

/// What the Kafka sink of the example guarantees, with these changes of the example.
fn guarantee(changes: &[(&str, &str)]) -> DeliveryGuarantee {
    let mut text = ORDERS.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let job = read(&text, "job.yaml").unwrap();
    let SinkConnector::Kafka(kafka) = &job.sinks[0].connector else {
        panic!("not Kafka");
    };
    assert!(kafka.delivery_guarantee.is_some(), "a checked job says it");
    kafka.guarantee()
}

#[test]
fn a_kafka_sink_without_a_guarantee_of_its_own_follows_the_mode_of_the_checkpoints() {
    let own = "        deliveryGuarantee: ExactlyOnce\n";
    let at_least_once = ("mode: ExactlyOnce", "mode: AtLeastOnce");
    let without_mode = ("    mode: ExactlyOnce\n", "");
    assert_eq!(guarantee(&[(own, "")]), DeliveryGuarantee::ExactlyOnce);
    assert_eq!(
        guarantee(&[(own, ""), without_mode]),
        DeliveryGuarantee::ExactlyOnce
    );
    assert_eq!(
        guarantee(&[(own, ""), at_least_once]),
        DeliveryGuarantee::AtLeastOnce
    );
    let faster = (own, "        deliveryGuarantee: AtLeastOnce\n");
    assert_eq!(guarantee(&[faster]), DeliveryGuarantee::AtLeastOnce);
}

#[test]
fn checkpoints_are_retained_unless_the_job_says_otherwise() {
    let of = |retention: &str| {
        let text = ORDERS.replace("    retention: RetainOnCancellation\n", retention);
        let job = read(&text, "job.yaml").unwrap();
        (job.checkpoint.retention, job.checkpoint.retention())
    };
    assert_eq!(of(""), (None, Retention::RetainOnCancellation));
    let delete = Retention::DeleteOnCancellation;
    let said = of("    retention: DeleteOnCancellation\n");
    assert_eq!(said, (Some(delete), delete));
}

#[test]
fn bytes_that_are_no_text_are_refused_where_it_ends() {
    let bytes = [b"apiVersion: x\nkind: \xc3\xa4".as_slice(), b"\xff\n"].concat();
    let error = read_bytes(&bytes, "job.yaml").unwrap_err();
    assert_eq!(
        error.to_string(),
        "job.yaml: 1 fault\n  line 2, column 8: the file is not UTF-8 from here on. Save it as UTF-8"
    );
    assert_eq!(
        read_bytes(ORDERS.as_bytes(), "x").unwrap(),
        read(ORDERS, "y").unwrap()
    );
}

#[test]
fn no_more_than_a_hundred_faults_are_listed_and_the_rest_is_counted() {
    let unknown: Vec<String> = (0..150)
        .map(|number| {
            format!(
                "  unknown{number}: 1
"
            )
        })
        .collect();
    let error = refusal(&format!("{ORDERS}{}", unknown.concat()));
    assert_eq!(error.faults().len(), 100);
    assert_eq!(error.count(), 150);
    assert!(error.to_string().ends_with("… and 50 more"));
}
