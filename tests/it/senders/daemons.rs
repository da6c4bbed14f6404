//! Debian's own Nagios and Icinga 2 as foreground processes: a port that their plugin checks closes, somebody acknowledges,
//! the port opens again, and they run our script as their pages in docs/senders say.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::{blocks, filled, root, start, tool};
use crate::harness::{Recorder, Surgegate, wait_at_most};

/// They look each second; a busy machine makes that many.
const PATIENCE: Duration = Duration::from_secs(180);

/// A running daemon with its files. Dropped: killed.
struct Daemon {
    directory: TempDir,
    child: Option<Child>,
}

impl Daemon {
    /// The files that its page has somebody install: our script, and the URL where it is read.
    fn installed(page: &str, surgegate: &Surgegate) -> Self {
        let directory = TempDir::new().unwrap();
        let at = directory.path();
        let install = filled(page, surgegate)
            .replace("config/senders", root().join("config/senders").to_str().unwrap())
            .replace("/usr/local/bin/", &format!("{}/", at.display()))
            // It is not there before: so it is at a sender's host.
            .replace("/etc/surgegate", &format!("{}/etc/surgegate", at.display()))
            // Who runs the test runs the daemon.
            .replace(" -o nagios", "");
        super::shell(&install);
        Self { directory, child: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn run(&mut self, command: &mut Command) {
        let out = std::fs::File::create(self.path("out")).unwrap();
        command.env("SURGEGATE_URL_FILE", self.path("etc/surgegate/sender.url")).stdin(Stdio::null());
        command.stdout(out.try_clone().unwrap()).stderr(out);
        self.child = Some(command.spawn().expect("make install-tools"));
    }

    /// What it would say to a person.
    fn said(&self) -> String {
        ["out", "log"].map(|name| std::fs::read_to_string(self.path(name)).unwrap_or_default()).concat()
    }

    /// One line into the pipe on which it takes commands.
    fn tell(&self, pipe: &Path, line: &str) {
        wait_at_most(PATIENCE, "the pipe for commands", || {
            std::fs::OpenOptions::new()
                .append(true)
                .create(false)
                .open(pipe)
                .ok()
                .filter(|_| std::os::unix::fs::FileTypeExt::is_fifo(&std::fs::metadata(pipe).unwrap().file_type()))
        })
        .write_all(format!("[{}] {line}\n", now()).as_bytes())
        .unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Gone already when it could not start. TERM: its workers end with it.
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            eprintln!(
                "--- the last of what the daemon said\n{}\n---",
                lines[lines.len().saturating_sub(40)..].join("\n")
            );
        }
    }
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// What the plugin connects to; it can be closed and opened again.
struct Port {
    address: SocketAddr,
    open: Option<TcpListener>,
}

impl Port {
    fn open() -> Self {
        let open = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        open.set_nonblocking(true).unwrap();
        Self { address: open.local_addr().unwrap(), open: Some(open) }
    }

    /// Until a check found it open: what fails later has been well before.
    fn wait_for_a_check(&self) {
        let listener = self.open.as_ref().unwrap();
        wait_at_most(PATIENCE, "the first check", || listener.accept().ok());
    }

    fn close(&mut self) {
        self.open = None;
    }

    fn open_again(&mut self) {
        self.open = Some(wait_at_most(PATIENCE, "the port", || TcpListener::bind(self.address).ok()));
    }

    fn check(&self) -> String {
        let plugin = tool("nagios/usr/lib/nagios/plugins/check_tcp");
        assert!(plugin.exists(), "no plugins at {}: make install-tools", plugin.display());
        format!("{} -H 127.0.0.1 -p {} -t 5", plugin.display(), self.address.port())
    }
}

/// Action and key of what came, each once.
fn came(recorder: &Recorder) -> Vec<(String, String)> {
    let text = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
    recorder.events().iter().map(|event| (text(event, "action"), text(event, "key"))).collect()
}

const HOST: &str = "db-7";
const SERVICE: &str = "web-3/disk /data";

fn wait_for(daemon: &mut Daemon, recorder: &Recorder, action: &str) {
    wait_at_most(PATIENCE, action, || {
        let ended = daemon.child.as_mut().unwrap().try_wait().unwrap();
        assert!(ended.is_none(), "it ended: {}", daemon.said());
        let came = came(recorder);
        [HOST, SERVICE].iter().all(|key| came.contains(&(action.to_owned(), (*key).to_owned()))).then_some(())
    });
}

/// A host and another host's service go down, are acknowledged and come back, each told once in that order.
fn goes_down_and_comes_back(
    daemon: &mut Daemon,
    port: &mut Port,
    pipe: &Path,
    surgegate: &Surgegate,
    recorder: &Recorder,
) {
    port.wait_for_a_check();
    assert!(recorder.events().is_empty(), "all is well: {:?}", came(recorder));
    port.close();
    wait_for(daemon, recorder, "trigger");
    daemon.tell(pipe, "ACKNOWLEDGE_HOST_PROBLEM;db-7;1;1;0;ops;seen");
    daemon.tell(pipe, "ACKNOWLEDGE_SVC_PROBLEM;web-3;disk /data;1;1;0;ops;seen");
    wait_for(daemon, recorder, "acknowledge");
    port.open_again();
    wait_for(daemon, recorder, "resolve");
    surgegate.wait_until_delivered();
    for key in [HOST, SERVICE] {
        let events = recorder.events();
        let of_key: Vec<&Value> = events.iter().filter(|event| event["key"] == key).collect();
        let actions: Vec<&Value> = of_key.iter().map(|event| &event["action"]).collect();
        assert_eq!(actions, ["trigger", "acknowledge", "resolve"], "{key}");
        let trigger = of_key[0];
        assert_eq!(trigger["severity"], 5, "{trigger}");
        assert!(trigger["description"].as_str().unwrap().contains("onnect"), "the plugin's own words: {trigger}");
        assert!(trigger["title"].as_str().unwrap().starts_with(&format!("{key} is ")), "{trigger}");
    }
    assert_eq!(surgegate.scrape().count("events_rejected_total", &[]), 0);
}

#[test]
fn nagios_itself_takes_its_page_and_tells_of_problem_acknowledgement_and_recovery() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, "");
    let mut port = Port::open();
    let mut daemon = Daemon::installed(&blocks("nagios.md", "sh")[0], &surgegate);
    let at = daemon.directory.path().display().to_string();
    let page = blocks("nagios.md", "nagios")[0].replace("/usr/local/bin/", &format!("{at}/"));
    let days = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
    let always: String = days.iter().map(|day| format!("    {day} 00:00-24:00\n")).collect();
    let checked = "    max_check_attempts 1\n    check_interval 1\n    retry_interval 1\n    check_period 24x7\n    \
                   notification_interval 0\n    notification_period 24x7\n    contacts surgegate\n";
    daemon.write(
        "objects.cfg",
        &format!(
            "{page}\ndefine timeperiod {{\n    timeperiod_name 24x7\n    alias always\n{always}}}\n\
             define command {{\n    command_name check-port\n    command_line {}\n}}\n\
             define command {{\n    command_name well\n    command_line /bin/echo well\n}}\n\
             define host {{\n    host_name db-7\n    address 192.0.2.7\n    check_command check-port\n{checked}}}\n\
             define host {{\n    host_name web-3\n    check_command well\n{checked}}}\n\
             define service {{\n    host_name web-3\n    service_description disk /data\n    check_command check-port\n{checked}}}\n",
            port.check()
        ),
    );
    std::fs::create_dir(daemon.path("results")).unwrap();
    let user = |flag| String::from_utf8(Command::new("id").arg(flag).output().unwrap().stdout).unwrap();
    daemon.write(
        "nagios.cfg",
        &format!(
            "cfg_file={at}/objects.cfg\nlog_file={at}/log\nobject_cache_file={at}/objects.cache\nstatus_file={at}/status.dat\n\
             temp_file={at}/tmp\ntemp_path={at}\nlock_file={at}/lock\ncommand_file={at}/commands\nquery_socket={at}/query\n\
             check_result_path={at}/results\nretain_state_information=0\nnagios_user={}nagios_group={}\
             check_external_commands=1\nenable_notifications=1\ninterval_length=1\nuse_syslog=0\nnotification_timeout=120\n\
             host_inter_check_delay_method=n\nservice_inter_check_delay_method=n\nillegal_macro_output_chars=`~$&|'\"<>\n",
            user("-un"),
            user("-gn")
        ),
    );
    let configuration = daemon.path("nagios.cfg");
    daemon.run(Command::new(tool("nagios/usr/sbin/nagios4")).arg(configuration));
    let pipe = daemon.path("commands");
    goes_down_and_comes_back(&mut daemon, &mut port, &pipe, &surgegate, &recorder);
}

#[test]
fn icinga_itself_takes_its_page_and_tells_of_problem_acknowledgement_and_recovery() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, "");
    let mut port = Port::open();
    let install = blocks("nagios.md", "sh")[0].replace("/hooks/nagios/", "/hooks/icinga/");
    let mut daemon = Daemon::installed(&install, &surgegate);
    let at = daemon.directory.path().display().to_string();
    let page = blocks("icinga.md", "icinga")[0].replace("/usr/local/bin/", &format!("{at}/"));
    let words = |command: &str| command.split(' ').map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
    let checked = "max_check_attempts = 1\n  check_interval = 1s\n  retry_interval = 1s\n";
    daemon.write(
        "icinga2.conf",
        &format!(
            "include <itl>\nobject CheckerComponent \"checker\" {{}}\nobject NotificationComponent \"notification\" {{}}\n\
             object FileLogger \"main\" {{ severity = \"information\"; path = \"{at}/log\" }}\n\
             object ExternalCommandListener \"command\" {{ command_path = \"{at}/commands\" }}\n\
             object CheckCommand \"port\" {{ command = [ {} ] }}\n{page}\n\
             object Host \"db-7\" {{\n  address = \"192.0.2.7\"\n  check_command = \"port\"\n  {checked}}}\n\
             object Host \"web-3\" {{\n  check_command = \"dummy\"\n  {checked}}}\n\
             object Service \"disk /data\" {{\n  host_name = \"web-3\"\n  check_command = \"port\"\n  {checked}}}\n",
            words(&port.check())
        ),
    );
    let mut command = Command::new(tool("icinga/icinga2"));
    let library = tool("icinga/usr/share/icinga2");
    command.args(["--no-stack-rlimit", "daemon", "-x", "warning", "-c"]).arg(daemon.path("icinga2.conf"));
    command.arg("-I").arg(library.join("include"));
    let user = |flag| String::from_utf8(Command::new("id").arg(flag).output().unwrap().stdout).unwrap();
    command.args(["-D", &format!("Configuration.RunAsUser={}", user("-un").trim())]);
    command.args(["-D", &format!("Configuration.RunAsGroup={}", user("-gn").trim())]);
    for name in ["DataDir", "CacheDir", "LogDir", "InitRunDir", "ConfigDir", "SpoolDir"] {
        let directory = daemon.path(name);
        std::fs::create_dir(&directory).unwrap();
        command.args(["-D", &format!("Configuration.{name}={}", directory.display())]);
    }
    daemon.run(&mut command);
    let pipe = daemon.path("commands");
    goes_down_and_comes_back(&mut daemon, &mut port, &pipe, &surgegate, &recorder);
}
