//! A Flink session cluster on this machine: one `JobManager`, one `TaskManager`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::http::{free_port, request};
use crate::process::Process;
use crate::{Result, Sizes};

/// Java 17 hides what Flink's serializers look at; Flink's own start scripts pass these too.
const OPENS: [&str; 7] = [
    "--add-exports=java.base/sun.net.util=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/java.net=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
    "--add-opens=java.base/java.time=ALL-UNNAMED",
];

/// A running cluster with two slots.
pub struct Flink {
    home: PathBuf,
    directory: PathBuf,
    rest_port: u16,
    job_manager: Process,
    task_manager: Process,
}

/// What `/jobs/{id}/checkpoints` tells.
#[derive(Deserialize)]
struct Checkpoints {
    history: Vec<Checkpoint>,
}

#[derive(Deserialize)]
struct Checkpoint {
    id: u64,
    status: String,
    state_size: u64,
    checkpointed_size: u64,
}

fn java(home: &Path, directory: &Path) -> Command {
    let mut command = Command::new("java");
    command
        .args(OPENS)
        .arg("-Djava.net.preferIPv4Stack=true")
        .arg(format!(
            "-Dlog4j2.configurationFile={}",
            directory.join("log4j2.properties").display()
        ))
        .arg("-cp")
        .arg(format!("{}/lib/*", home.display()))
        .env("FLINK_CONF_DIR", directory);
    command
}

impl Flink {
    /// Starts a cluster of the Flink below `home` (what `tools/flink.sh` prints), with its files
    /// in `directory`, and waits until its slots are registered.
    pub fn start(home: &Path, directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let rest_port = free_port()?;
        write_config(directory, rest_port, free_port()?)?;
        let mut job_manager = java(home, directory);
        job_manager
            .args(["-Xms448m", "-Xmx448m", "-XX:MaxMetaspaceSize=256m"])
            .arg("org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint")
            .arg("--configDir")
            .arg(directory);
        let job_manager = Process::start(&mut job_manager, &directory.join("jobmanager.log"))?;
        let (jvm, dynamic) = task_manager_resources(home, directory)?;
        let mut task_manager = java(home, directory);
        task_manager
            .args(&jvm)
            .arg("org.apache.flink.runtime.taskexecutor.TaskManagerRunner")
            .arg("--configDir")
            .arg(directory)
            .args(&dynamic);
        let task_manager = Process::start(&mut task_manager, &directory.join("taskmanager.log"))?;
        let (home, directory) = (home.to_owned(), directory.to_owned());
        let flink = Self {
            home,
            directory,
            rest_port,
            job_manager,
            task_manager,
        };
        flink.wait_for("/overview", |body| body.contains(r#""slots-available":2"#))?;
        Ok(flink)
    }

    /// CPU-seconds of `JobManager` and `TaskManager`.
    pub fn cpu_seconds(&self) -> Result<f64> {
        Ok(self.job_manager.cpu_seconds()? + self.task_manager.cpu_seconds()?)
    }

    /// Sum of both peaks, bytes.
    pub fn peak_rss_bytes(&self) -> Result<u64> {
        Ok(self.job_manager.peak_rss_bytes()? + self.task_manager.peak_rss_bytes()?)
    }

    /// Sum of both resident sets now, bytes.
    pub fn rss_bytes(&self) -> Result<u64> {
        Ok(self.job_manager.rss_bytes()? + self.task_manager.rss_bytes()?)
    }

    /// Submits a job of `benches/flink`; returns its id.
    pub fn submit(&self, class: &str, arguments: &[&str]) -> Result<String> {
        let output = java(&self.home, &self.directory)
            .arg("org.apache.flink.client.cli.CliFrontend")
            .args(["run", "-d", "-c", class])
            .arg(self.home.join("job/benches.jar"))
            .args(arguments)
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let id = text
            .split("JobID ")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next());
        id.map(str::to_owned).ok_or_else(|| {
            format!(
                "flink run: {text}{}",
                String::from_utf8_lossy(&output.stderr)
            )
            .into()
        })
    }

    /// Cancels a job and waits until its slots are free.
    pub fn cancel(&self, job: &str) -> Result<()> {
        request(self.rest_port, "PATCH", &format!("/jobs/{job}?mode=cancel"))?;
        self.wait_for("/overview", |body| body.contains(r#""slots-available":2"#))
    }

    /// Completed checkpoints of a job, the newest thousand of them.
    pub fn checkpoints(&self, job: &str) -> Result<Vec<Sizes>> {
        let body = request(self.rest_port, "GET", &format!("/jobs/{job}/checkpoints"))?;
        let told: Checkpoints = serde_json::from_str(&body)?;
        let completed = told
            .history
            .into_iter()
            .filter(|one| one.status == "COMPLETED");
        let sizes = completed.map(|one| Sizes {
            id: one.id,
            uploaded: one.checkpointed_size,
            whole: one.state_size,
        });
        Ok(sizes.collect())
    }

    fn wait_for(&self, path: &str, condition: impl Fn(&str) -> bool) -> Result<()> {
        let began = Instant::now();
        loop {
            if request(self.rest_port, "GET", path).is_ok_and(|body| condition(&body)) {
                return Ok(());
            }
            if began.elapsed() > Duration::from_secs(90) {
                return Err(format!("Flink: {path} is not as wanted after 90 s").into());
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }
}

fn write_config(directory: &Path, rest_port: u16, rpc_port: u16) -> Result<()> {
    let checkpoints = directory.join("checkpoints");
    std::fs::create_dir_all(&checkpoints)?;
    std::fs::write(
        directory.join("config.yaml"),
        format!(
            "jobmanager.rpc.address: 127.0.0.1\njobmanager.rpc.port: {rpc_port}\n\
             jobmanager.bind-host: 127.0.0.1\njobmanager.memory.process.size: 1024m\n\
             taskmanager.bind-host: 127.0.0.1\ntaskmanager.host: 127.0.0.1\n\
             taskmanager.numberOfTaskSlots: 2\ntaskmanager.memory.process.size: 2560m\n\
             rest.address: 127.0.0.1\nrest.bind-address: 127.0.0.1\nrest.port: {rest_port}\n\
             web.checkpoints.history: 1000\nweb.refresh-interval: 100\n\
             rest.cache.checkpoint-statistics.timeout: 100 ms\nio.tmp.dirs: {}\nparallelism.default: 2\nexecution.checkpointing.dir: file://{}\n\
             state.checkpoints.dir: file://{}\n",
            directory.display(),
            checkpoints.display(),
            checkpoints.display()
        ),
    )?;
    std::fs::write(
        directory.join("log4j2.properties"),
        "rootLogger.level = WARN\nrootLogger.appenderRef.c.ref = C\nappender.c.name = C\n\
         appender.c.type = CONSOLE\nappender.c.layout.type = PatternLayout\n\
         appender.c.layout.pattern = %d %-5p %c %m%n\n",
    )?;
    Ok(())
}

/// The `TaskManager`'s memory flags, as Flink's own start script computes them.
fn task_manager_resources(home: &Path, directory: &Path) -> Result<(Vec<String>, Vec<String>)> {
    let output = java(home, directory)
        .arg("org.apache.flink.runtime.util.bash.BashJavaUtils")
        .args(["GET_TM_RESOURCE_PARAMS", "--configDir"])
        .arg(directory)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = text.lines().filter_map(|line| {
        line.split_once("BASH_JAVA_UTILS_EXEC_RESULT:")
            .map(|(_, flags)| flags)
    });
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    match (lines.next(), lines.next()) {
        (Some(jvm), Some(dynamic)) => Ok((words(jvm), words(dynamic))),
        _ => Err(format!(
            "BashJavaUtils: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        )
        .into()),
    }
}
