//! The one door to Kubernetes, and through its API server to a job's coordinator.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams, PostParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client, Config};
use millstream_crds::contract::{LABEL_JOB, LABEL_REVISION, LABEL_ROLE};
use millstream_crds::{StreamJob, StreamSavepoint};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::arguments::Connection;
use crate::job::Job;
use crate::problem::Problem;

/// Field manager of everything that is written.
pub const FIELD_MANAGER: &str = "kubectl-streamjob";

/// How long the API server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a coordinator or worker may take to answer through the API server.
const PROXY_TIMEOUT: Duration = Duration::from_secs(5);

/// A namespace of a cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
    server: String,
}

/// Whether what is written counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// It does.
    ForReal,
    /// The API server checks it and says what would be.
    DryRun,
}

impl Writing {
    fn params(self) -> PatchParams {
        PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            dry_run: self == Self::DryRun,
            ..PatchParams::default()
        }
    }
}

impl Cluster {
    /// Prepares to talk to the cluster that the options name. Nothing is sent yet.
    ///
    /// # Errors
    /// There is no usable kubeconfig.
    pub async fn connect(options: &Connection) -> Result<Self, Problem> {
        let mut config = configuration(options).await?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // A person waits; a coordinator that cannot be reached is told, not retried for minutes.
        config.default_retry = false;
        config.auth_info.impersonate.clone_from(&options.act_as);
        let namespace = options
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string();
        let server = server.trim_end_matches('/').to_owned();
        let client = Client::try_from(config).map_err(|error| Problem::of(&error, &server))?;
        Ok(Self {
            client,
            namespace,
            server,
        })
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Address of the API server.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The same cluster, another namespace.
    pub fn with_namespace(mut self, namespace: String) -> Self {
        self.namespace = namespace;
        self
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Jobs are read as they are stored, so that a job of another version can be looked at.
    fn jobs(&self) -> Api<DynamicObject> {
        let kind = ApiResource::erase::<StreamJob>(&());
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind)
    }

    async fn ask<T>(&self, answer: impl Future<Output = kube::Result<T>>) -> Result<T, Problem> {
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => answer.map_err(|error| Problem::of(&error, &self.server)),
            Err(_) => Err(Problem::Unreachable {
                server: self.server.clone(),
                reason: format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
            }),
        }
    }

    /// A job.
    ///
    /// # Errors
    /// There is none of this name, or it cannot be read.
    pub async fn job(&self, name: &str) -> Result<Job, Problem> {
        match self.ask(self.jobs().get_opt(name)).await? {
            Some(object) => Job::read(object),
            None => Err(Problem::NotFound {
                kind: "StreamJob",
                name: name.to_owned(),
                namespace: self.namespace.clone(),
                known: self.job_names().await?,
            }),
        }
    }

    /// Names of the namespace's jobs.
    ///
    /// # Errors
    /// They cannot be listed; the kind is not installed.
    pub async fn job_names(&self) -> Result<Vec<String>, Problem> {
        let jobs = self.jobs();
        let list = self.ask(jobs.list_metadata(&ListParams::default())).await?;
        Ok(list
            .items
            .into_iter()
            .filter_map(|job| job.metadata.name)
            .collect())
    }

    /// Changes a job by a JSON merge patch and says what it is then.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn patch_job(
        &self,
        name: &str,
        patch: &Value,
        writing: Writing,
    ) -> Result<Job, Problem> {
        let jobs = self.jobs();
        let patch = Patch::Merge(patch);
        Job::read(
            self.ask(jobs.patch(name, &writing.params(), &patch))
                .await?,
        )
    }

    /// What a manifest would make of a job, by a server-side apply of that manager that does not
    /// count.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn try_apply(
        &self,
        name: &str,
        manifest: &Value,
        manager: &str,
    ) -> Result<Job, Problem> {
        let params = PatchParams::apply(manager).force().dry_run();
        let jobs = self.jobs();
        let patch = Patch::Apply(manifest);
        Job::read(self.ask(jobs.patch(name, &params, &patch)).await?)
    }

    /// The pods of a job, coordinator first.
    ///
    /// # Errors
    /// They cannot be listed.
    pub async fn pods(&self, job: &str) -> Result<Vec<Pod>, Problem> {
        let params = ListParams::default().labels(&format!("{LABEL_JOB}={job},{LABEL_ROLE}"));
        let mut pods = self.ask(self.api::<Pod>().list(&params)).await?.items;
        let key = |pod: &Pod| {
            let labels = pod.metadata.labels.as_ref();
            let role = labels.and_then(|labels| labels.get(LABEL_ROLE)).cloned();
            (role, pod.metadata.name.clone())
        };
        pods.sort_by_key(key);
        Ok(pods)
    }

    /// Deletes a pod without giving it time to end.
    ///
    /// # Errors
    /// There is none of this name, or it may not be deleted.
    pub async fn delete_pod_now(&self, name: &str) -> Result<(), Problem> {
        let at_once = DeleteParams::default().grace_period(0);
        self.ask(self.api::<Pod>().delete(name, &at_once)).await?;
        Ok(())
    }

    /// The deployments of a job.
    ///
    /// # Errors
    /// They cannot be listed.
    pub async fn deployments(&self, job: &str) -> Result<Vec<Deployment>, Problem> {
        let params = ListParams::default().labels(&format!("{LABEL_JOB}={job}"));
        Ok(self
            .ask(self.api::<Deployment>().list(&params))
            .await?
            .items)
    }

    /// The config maps of a job's revisions.
    ///
    /// # Errors
    /// They cannot be listed.
    pub async fn revisions(&self, job: &str) -> Result<Vec<ConfigMap>, Problem> {
        let params = ListParams::default().labels(&format!("{LABEL_JOB}={job},{LABEL_REVISION}"));
        Ok(self.ask(self.api::<ConfigMap>().list(&params)).await?.items)
    }

    /// All events of the namespace.
    ///
    /// # Errors
    /// They cannot be listed.
    pub async fn events(&self) -> Result<Vec<Event>, Problem> {
        let params = ListParams::default();
        Ok(self.ask(self.api::<Event>().list(&params)).await?.items)
    }

    /// The savepoints of a job.
    ///
    /// # Errors
    /// They cannot be listed.
    pub async fn savepoints(&self, job: &str) -> Result<Vec<StreamSavepoint>, Problem> {
        let api = self.api::<StreamSavepoint>();
        let mut savepoints = self.ask(api.list(&ListParams::default())).await?.items;
        savepoints.retain(|savepoint| savepoint.spec.job_ref.name == job);
        Ok(savepoints)
    }

    /// A savepoint.
    ///
    /// # Errors
    /// There is none of this name, or it cannot be read.
    pub async fn savepoint(&self, name: &str) -> Result<StreamSavepoint, Problem> {
        let found = self
            .ask(self.api::<StreamSavepoint>().get_opt(name))
            .await?;
        found.ok_or_else(|| Problem::NotFound {
            kind: "StreamSavepoint",
            name: name.to_owned(),
            namespace: self.namespace.clone(),
            known: Vec::new(),
        })
    }

    /// Creates a savepoint.
    ///
    /// # Errors
    /// The API server refuses it; one of this name is there.
    pub async fn create_savepoint(
        &self,
        savepoint: &StreamSavepoint,
    ) -> Result<StreamSavepoint, Problem> {
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let api = self.api::<StreamSavepoint>();
        self.ask(api.create(&params, savepoint)).await
    }

    /// A container's log, up to now.
    ///
    /// # Errors
    /// There is none.
    pub async fn log(&self, pod: &str, params: &LogParams) -> Result<String, Problem> {
        self.ask(self.api::<Pod>().logs(pod, params)).await
    }

    /// A container's log, line by line.
    ///
    /// # Errors
    /// There is none.
    pub async fn log_stream(
        &self,
        pod: &str,
        params: &LogParams,
    ) -> Result<impl futures::AsyncBufRead + Send + use<>, Problem> {
        let stream = self.api::<Pod>().log_stream(pod, params).await;
        stream.map_err(|error| Problem::of(&error, &self.server))
    }

    /// Text that a pod serves at a port, through the API server.
    ///
    /// # Errors
    /// It does not answer, or answers with an error; or the user may not use the proxy.
    pub async fn serve_text(&self, pod: &str, port: u16, path: &str) -> Result<String, Problem> {
        let namespace = &self.namespace;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}");
        let request = http::Request::get(path).body(Vec::new()).map_err(|error| {
            let reason = error.to_string();
            Problem::System {
                what: format!("no request to pod `{pod}` can be made"),
                reason,
            }
        })?;
        let silent = |reason: String| Problem::System {
            what: format!("pod `{pod}` does not answer"),
            reason,
        };
        match tokio::time::timeout(PROXY_TIMEOUT, self.client.request_text(request)).await {
            Ok(answer) => answer.map_err(|error| match Problem::of(&error, &self.server) {
                // The API server has answered, for a pod that has not.
                Problem::Unreachable { reason, .. } => silent(reason),
                problem => problem,
            }),
            Err(_) => Err(silent(format!("not within {} s", PROXY_TIMEOUT.as_secs()))),
        }
    }

    /// What a pod answers at a port, through the API server, whatever its status is.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn pass_on(
        &self,
        pod: &str,
        port: u16,
        method: http::Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<http::Response<kube::client::Body>, Problem> {
        let namespace = &self.namespace;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}");
        let request = http::Request::builder().method(method).uri(path);
        let request = request.header(http::header::CONTENT_TYPE, "application/json");
        let silent = |reason: String| Problem::System {
            what: format!("pod `{pod}` does not answer"),
            reason,
        };
        let request = request.body(kube::client::Body::from(body));
        let request = request.map_err(|error| silent(error.to_string()))?;
        match tokio::time::timeout(PROXY_TIMEOUT, self.client.send(request)).await {
            Ok(answer) => answer.map_err(|error| Problem::of(&error, &self.server)),
            Err(_) => Err(silent(format!("not within {} s", PROXY_TIMEOUT.as_secs()))),
        }
    }

    /// JSON that a pod serves at a port, through the API server.
    ///
    /// # Errors
    /// As [`serve_text`](Self::serve_text), or it is not what was expected.
    pub async fn serve<T: DeserializeOwned>(
        &self,
        pod: &str,
        port: u16,
        path: &str,
    ) -> Result<T, Problem> {
        let text = self.serve_text(pod, port, path).await?;
        serde_json::from_str(&text).map_err(|error| Problem::Unreadable {
            what: format!("what pod `{pod}` says at {path}"),
            reason: error.to_string(),
        })
    }

    /// Versions of the API server.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn server_version(&self) -> Result<BTreeMap<String, String>, Problem> {
        let version = self.ask(self.client.apiserver_version()).await?;
        Ok(BTreeMap::from([
            ("gitVersion".to_owned(), version.git_version),
            ("platform".to_owned(), version.platform),
        ]))
    }
}

async fn configuration(options: &Connection) -> Result<Config, Problem> {
    let context = KubeConfigOptions {
        context: options.context.clone(),
        ..KubeConfigOptions::default()
    };
    let wrong = |error: KubeconfigError| Problem::NoConfiguration {
        reason: error.to_string(),
    };
    if let Some(path) = &options.kubeconfig {
        let file = Kubeconfig::read_from(path).map_err(wrong)?;
        return Config::from_custom_kubeconfig(file, &context)
            .await
            .map_err(wrong);
    }
    match Config::from_kubeconfig(&context).await {
        Ok(config) => Ok(config),
        // In a pod there is a service account in place of a kubeconfig.
        Err(error) if options.context.is_none() => Config::incluster().map_err(|_| wrong(error)),
        Err(error) => Err(wrong(error)),
    }
}
