//! The interface described for machines: `OpenAPI` 3.1, whose schemas are those of the bodies' types.

use millstream_types::api::{
    ApiError, AuditReport, CheckpointDetail, CheckpointList, FailureList, JobConfiguration,
    JobGraphReport, JobStatus, SavepointRequest, SavepointStatus, StopRequest,
};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// The `OpenAPI` document of the REST interface. `docs/reference/openapi.json` is a copy of it.
pub fn document() -> Value {
    let mut schemas = Schemas {
        answers: settings().for_serialize().into_generator(),
        requests: settings().for_deserialize().into_generator(),
    };
    let paths = paths(&mut schemas);
    let mut definitions = schemas.answers.take_definitions(true);
    definitions.extend(schemas.requests.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Millstream coordinator",
            "description": "Observe a stream job, take savepoints of it, stop or cancel it.",
            "version": "v1",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "paths": paths,
        "components": {"schemas": definitions},
    })
}

fn settings() -> SchemaSettings {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    settings
}

/// An answer has all its fields; a request may leave those out that have a default.
struct Schemas {
    answers: SchemaGenerator,
    requests: SchemaGenerator,
}

impl Schemas {
    fn answer<T: JsonSchema>(&mut self) -> Value {
        self.answers.subschema_for::<T>().to_value()
    }

    fn request<T: JsonSchema>(&mut self) -> Value {
        self.requests.subschema_for::<T>().to_value()
    }
}

fn paths(schemas: &mut Schemas) -> Value {
    let error = &schemas.answer::<ApiError>();
    let job = schemas.answer::<JobStatus>();
    let savepoint = schemas.answer::<SavepointStatus>();
    let list = schemas.answer::<CheckpointList>();
    let detail = schemas.answer::<CheckpointDetail>();
    let audit = schemas.answer::<AuditReport>();
    let savepoint_request = schemas.request::<SavepointRequest>();
    let stop_request = schemas.request::<StopRequest>();
    let mut paths = json!({
        "/v1/checkpoints": {"get":
            Operation::new("listCheckpoints", "Checkpoints and savepoints since this coordinator began, the newest first, at most 100")
                .answers("200", "The checkpoints", &list)
                .document(error)},
        "/v1/checkpoints/{id}": {"get": Operation::new("getCheckpoint", "One of these checkpoints")
            .parameter("id", &json!({"type": "integer", "format": "uint64", "minimum": 0}))
            .answers("200", "The checkpoint", &detail)
            .refuses("400", "The number is none")
            .refuses("404", "This coordinator knows no such checkpoint")
            .document(error)},
        "/v1/savepoints": {"post": Operation::new("takeSavepoint", "Take a savepoint. The same name again is the same request, unless it has failed")
            .body(&savepoint_request)
            .answers("202", "How it stands now", &savepoint)
            .refuses("400", "The body is not JSON, or the name is not allowed")
            .refuses("403", "A page of another site asks")
            .refuses("409", "The job is ending")
            .refuses("410", "The coordinator has ended")
            .refuses("415", "The content type is not application/json")
            .refuses("422", "The body is not a request")
            .refuses("502", "The checkpoint store could not be asked")
            .document(error)},
        "/v1/savepoints/{name}": {"get": Operation::new("getSavepoint", "How a savepoint stands, also one of an earlier coordinator")
            .parameter("name", &json!({"type": "string", "pattern": "^[a-z0-9-]{1,63}$"}))
            .answers("200", "The savepoint", &savepoint)
            .refuses("400", "The name is not allowed")
            .refuses("404", "Nobody has asked for it")
            .refuses("410", "The coordinator has ended")
            .refuses("502", "The checkpoint store could not be asked")
            .document(error)},
        "/v1/stop": {"post": Operation::new("stopJob", "Stop the job, with a savepoint or after a last checkpoint. The same request again is fine")
            .body(&stop_request)
            .answers("202", "The job now; GET /v1/job shows when it has stopped", &job)
            .refuses("400", "The body is not JSON, or the savepoint's name is not allowed")
            .refuses("403", "A page of another site asks")
            .refuses("409", "The savepoint exists already, or the job is ending otherwise")
            .refuses("410", "The coordinator has ended")
            .refuses("415", "The content type is not application/json")
            .refuses("422", "The body is not a request")
            .refuses("502", "The checkpoint store could not be asked")
            .document(error)},
        "/v1/cancel": {"post": Operation::new("cancelJob", "End the job at once, without a checkpoint. The same request again is fine")
            .answers("202", "The job now; GET /v1/job shows when it has stopped", &job)
            .refuses("403", "A page of another site asks")
            .refuses("409", "The job is ending otherwise")
            .refuses("410", "The coordinator has ended")
            .document(error)},
        "/v1/audit": {"get": Operation::new("getAudit", "What became of the records, by the newest manifest")
            .answers("200", "The audit", &audit)
            .document(error)},
    });
    for (path, operation) in job_paths(schemas, error)
        .into_iter()
        .chain(own_paths(error))
    {
        paths[path] = operation;
    }
    paths
}

/// What there is to know of the job.
fn job_paths(schemas: &mut Schemas, error: &Value) -> Map<String, Value> {
    let job = schemas.answer::<JobStatus>();
    let graph = schemas.answer::<JobGraphReport>();
    let configuration = schemas.answer::<JobConfiguration>();
    let failures = schemas.answer::<FailureList>();
    let paths = json!({
        "/v1/job": {"get": Operation::new("getJob", "What the job is doing")
            .answers("200", "The job", &job)
            .document(error)},
        "/v1/job/graph": {"get": Operation::new("getJobGraph", "Its nodes, the chains that tasks run, and where records flow")
            .answers("200", "The graph", &graph)
            .document(error)},
        "/v1/job/config": {"get": Operation::new("getJobConfiguration", "What it was started with: the job file, and the settings that hold")
            .answers("200", "The configuration", &configuration)
            .document(error)},
        "/v1/job/failures": {"get": Operation::new("listFailures", "Attempts that have failed since this coordinator began, the newest first, at most 100")
            .answers("200", "The failures", &failures)
            .document(error)}
    });
    match paths {
        Value::Object(paths) => paths,
        _ => Map::new(),
    }
}

/// What the process itself answers.
fn own_paths(error: &Value) -> Map<String, Value> {
    let paths = json!({
        "/v1/openapi.json": {"get": Operation::new("getOpenapi", "This document")
            .answers("200", "OpenAPI 3.1", &json!({"type": "object"}))
            .document(error)},
        "/metrics": {"get": Operation::new("getMetrics", "Metrics for Prometheus, in the OpenMetrics text format")
            .text("200", "application/openmetrics-text", "The metrics")
            .document(error)},
        "/healthz": {"get": Operation::new("getHealth", "Whether the process lives")
            .text("200", "text/plain", "It does")
            .document(error)},
        "/readyz": {"get": Operation::new("getReadiness", "Whether all tasks of the job run")
            .text("200", "text/plain", "They do")
            .refuses("503", "They do not")
            .document(error)},
    });
    match paths {
        Value::Object(paths) => paths,
        _ => Map::new(),
    }
}

/// One operation, as its pieces are known.
struct Operation {
    id: &'static str,
    summary: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: Map<String, Value>,
    refusals: Vec<(&'static str, &'static str)>,
}

impl Operation {
    fn new(id: &'static str, summary: &'static str) -> Self {
        Self {
            id,
            summary,
            parameters: Vec::new(),
            body: None,
            answers: Map::new(),
            refusals: Vec::new(),
        }
    }

    fn parameter(mut self, name: &str, schema: &Value) -> Self {
        self.parameters
            .push(json!({"name": name, "in": "path", "required": true, "schema": schema}));
        self
    }

    fn body(mut self, schema: &Value) -> Self {
        self.body = Some(json!({
            "required": true,
            "content": {"application/json": {"schema": schema}},
        }));
        self
    }

    fn answers(mut self, status: &str, description: &str, schema: &Value) -> Self {
        let answer = json!({
            "description": description,
            "content": {"application/json": {"schema": schema}},
        });
        self.answers.insert(status.to_owned(), answer);
        self
    }

    fn text(mut self, status: &str, media_type: &str, description: &str) -> Self {
        let answer = json!({
            "description": description,
            "content": {media_type: {"schema": {"type": "string"}}},
        });
        self.answers.insert(status.to_owned(), answer);
        self
    }

    fn refuses(mut self, status: &'static str, description: &'static str) -> Self {
        self.refusals.push((status, description));
        self
    }

    fn document(mut self, error: &Value) -> Value {
        for (status, description) in self.refusals {
            let answer = json!({
                "description": description,
                "content": {"application/json": {"schema": error}},
            });
            self.answers.insert(status.to_owned(), answer);
        }
        let mut document = json!({
            "operationId": self.id,
            "summary": self.summary,
            "responses": self.answers,
        });
        if let Some(document) = document.as_object_mut() {
            if !self.parameters.is_empty() {
                document.insert("parameters".to_owned(), Value::Array(self.parameters));
            }
            if let Some(body) = self.body {
                document.insert("requestBody".to_owned(), body);
            }
        }
        document
    }
}
