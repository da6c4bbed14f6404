//! Debian's own systemd as the first process of its own namespaces: it takes the page of docs/senders/systemd.md, a unit of its
//! fails, and it starts our service, which tells the proxy.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{blocks, delivered, filled, root, start};
use crate::harness::{Recorder, Surgegate, wait_until};

/// A control group of its own, and namespaces in it. All that the manager starts ends with it.
const AROUND: &str = r#"
mkdir "$0/groups"
mount -t cgroup2 cgroup2 "$0/groups"
own=$0/groups$(sed -n 's/^0:://p' /proc/self/cgroup)/surgegate-test-$$
mkdir "$own"
sh -ec 'echo $$ >"$0/cgroup.procs"; exec "$@"' "$own" \
    unshare --pid --mount --cgroup --uts --ipc --fork --kill-child sh -ec "$1" "$0" &
manager=$!
trap 'kill -KILL $manager' TERM
# The first is cut short by the signal that ends all this; how the manager ended then is nobody's matter.
wait $manager || wait $manager || true
for number in $(seq 100); do
    find "$own" -depth -type d -exec rmdir {} + 2>/dev/null && break
    sleep 0.1
done
"#;

/// Nothing that is written here is seen outside: `/etc` and `/usr/local/bin` are laid over, the manager has no unit but the
/// page's, the test's and the journal's.
const WITHIN: &str = r#"
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "$0/over"
mount -t tmpfs -o mode=0755 tmpfs "$0/over"
mkdir "$0/over/etc" "$0/over/work" "$0/over/bin"
mount -t overlay -o "lowerdir=/etc,upperdir=$0/over/etc,workdir=$0/over/work" overlay /etc
mount --bind "$0/over/bin" /usr/local/bin
mount -t tmpfs tmpfs /etc/systemd/system
cp "$0"/units/* /etc/systemd/system/
for unit in journald.service journald.socket journald-dev-log.socket; do
    cp "/lib/systemd/system/systemd-$unit" /etc/systemd/system/
done
# As systemd-tmpfiles has it.
install -d -m 2755 -g systemd-journal /run/log /run/log/journal
sh -e "$0/page"
# As at a start of a machine: without it a service does not see its credentials.
mount --make-rshared /
exec env -i PATH=/usr/bin:/bin container=test SYSTEMD_UNIT_PATH=/etc/systemd/system \
    /lib/systemd/systemd --system --show-status=no --log-target=journal --unit=try.target
"#;

const TARGET: &str = "[Unit]\nDefaultDependencies=no\nRequires=systemd-journald.service\nWants=failing.service\n";
const ALONE: &str = "[Unit]\nDefaultDependencies=no\n";

struct Manager {
    directory: TempDir,
    child: Child,
}

impl Manager {
    /// Begins with what this page's commands did.
    fn start(commands: &str, failing: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let at = directory.path();
        std::fs::write(at.join("page"), commands).unwrap();
        std::fs::create_dir(at.join("units")).unwrap();
        let said = at.join("said");
        let failing = format!(
            "{failing}\n[Unit]\nAfter=systemd-journald.service\n[Service]\nType=oneshot\nExecStart=/bin/sh -c '(systemctl show \
             --value --property OnFailure failing.service; systemctl show --value --property DropInPaths \
             surgegate-failure@failing.service.service) >{}; echo the disk is gone; \
             journalctl --sync; exit 3'\n",
            said.display()
        );
        for (name, text) in [("try.target", TARGET), ("sysinit.target", ALONE), ("failing.service", &failing)] {
            std::fs::write(at.join("units").join(name), text).unwrap();
        }
        let out = std::fs::File::create(at.join("out")).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", AROUND]).arg(at).arg(WITHIN).current_dir(root());
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        Self { child: command.spawn().expect("unshare"), directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn said(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_default()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // TERM: it takes its control groups away.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- what the manager's start said\n{}\n---", self.said("out"));
        }
    }
}

/// A unit failed, with this in its file, after these commands: one event came, with the words of its journal. Gives what the
/// unit has for `OnFailure=`, and what is laid over the service that tells.
fn tells(surgegate: &Surgegate, recorder: &Recorder, commands: &str, failing: &str) -> Vec<String> {
    let before = recorder.events().len();
    let mut manager = Manager::start(&filled(commands, surgegate), failing);
    wait_until("the event", || {
        let ended = manager.child.try_wait().unwrap();
        assert!(ended.is_none(), "it ended: {}", manager.said("out"));
        recorder.events().len() > before
    });
    let events = delivered(surgegate, recorder);
    let event = events.last().unwrap();
    assert_eq!((events.len(), &event["action"]), (before + 1, &"trigger".into()));
    assert!(event["key"].as_str().unwrap().ends_with("/failing.service"), "{event}");
    assert!(event["description"].as_str().unwrap().contains("the disk is gone"), "{event}");
    assert!(event["tags"].to_string().contains("exit-code"), "{event}");
    manager.said("said").lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn systemd_itself_takes_its_page_and_tells_of_a_unit_that_failed() {
    const TELLS: &str = "surgegate-failure@failing.service.service";
    // A link to nothing, in place of the file for all.
    const KEPT_OUT: &str = "/etc/systemd/system/surgegate-failure@.service.d/surgegate.conf";
    let (commands, unit) = (blocks("systemd.md", "sh"), &blocks("systemd.md", "ini")[0]);
    let alone = (commands[0].clone(), unit.as_str(), &[TELLS][..]);
    let for_all = (commands.concat(), "", &[TELLS, KEPT_OUT][..]);
    for (commands, unit, wanted) in [alone, for_all] {
        let recorder = Recorder::start();
        let surgegate = start(&recorder, "");
        assert_eq!(tells(&surgegate, &recorder, &commands, unit), wanted);
    }
}
