//! Amazon's signatures and subscriptions, from outside: the real binary, a host of Amazon's name that stands on this machine
//! (`/etc/hosts` of the process's own mounts, port 443, an authority that `SSL_CERT_FILE` names), signatures by openssl.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::redis::free_port;
use crate::harness::tls::Authority;
use crate::harness::{Answer, KEY, Named, Recorder, Settings, Surgegate, tools, wait_until};

const HOST: &str = "sns.eu-west-1.amazonaws.com";
const DEAF: &str = "sns.us-east-1.amazonaws.com";
const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:alarms";
const CERTIFICATE: &str = "/SimpleNotificationService-1.pem";

fn openssl(arguments: &[&str]) {
    let run = Command::new("openssl").args(arguments).output().expect("openssl: make install-tools");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

/// What signs for Amazon: a key and its certificate in a folder.
struct Signer<'f>(&'f Path);

impl<'f> Signer<'f> {
    fn new(folder: &'f Path) -> Self {
        let [key, certificate] = ["signer.key", "signer.pem"].map(|name| folder.join(name).display().to_string());
        let subject = ["-subj", "/CN=sns.amazonaws.com"];
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            subject[0],
            subject[1],
            "-keyout",
            &key,
            "-out",
            &certificate,
        ]);
        Self(folder)
    }

    /// Whatever it is asked for as.
    fn certificate(&self) -> impl Fn(&str) -> Vec<u8> + Send + 'static {
        let pem = std::fs::read(self.0.join("signer.pem")).unwrap();
        move |_| pem.clone()
    }

    /// Signs a body in place, as Amazon's documents say, by this digest.
    fn sign(&self, body: &mut Value, digest: &str) {
        body["SignatureVersion"] = if digest == "-sha1" { "1" } else { "2" }.into();
        let mut names: Vec<&str> =
            ["Message", "MessageId", "SubscribeURL", "Subject", "Timestamp", "Token", "TopicArn", "Type"].into();
        names.retain(|name| body.get(*name).is_some());
        let text: String = names.iter().map(|name| format!("{name}\n{}\n", body[*name].as_str().unwrap())).collect();
        let [key, said, tag] = ["signer.key", "text", "tag"].map(|name| self.0.join(name).display().to_string());
        std::fs::write(&said, text).unwrap();
        openssl(&["dgst", digest, "-sign", &key, "-out", &tag, &said]);
        let encoded = Command::new("openssl").args(["base64", "-A", "-in", &tag]).output().unwrap();
        body["Signature"] = String::from_utf8(encoded.stdout).unwrap().into();
    }
}

/// A server of Amazon's name: gives the certificate of a path, and takes confirmations.
fn amazon(authority: &Authority, certificate: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Named {
    Named::start(authority, &[HOST], move |line| {
        let path = line.split(' ').nth(1).unwrap_or_default();
        (200, if path.ends_with(".pem") { certificate(path) } else { b"<ConfirmSubscriptionResponse/>".to_vec() })
    })
}

fn start(recorder: &Recorder, authority: &Authority, amazon: &Named) -> Surgegate {
    // The deaf one: nothing listens at that address.
    let under = amazon.under(authority, &format!("127.255.255.254 {DEAF}\n"));
    Surgegate::start_with(
        Settings { under, ..Settings::default() },
        &[&format!(
            "integrations:\n  - name: edge\n    keys: [{{ key: '{KEY}' }}]\n    upstreams: [pager]\n    \
             sns: {{ verify: true, auto_confirm: true, topics: ['{TOPIC}'] }}\n\
             upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\n",
            recorder.url()
        )],
    )
}

fn notification(id: &str, host: &str) -> Value {
    let alarm = json!({ "AlarmName": "CPU", "NewStateValue": "ALARM", "AlarmArn": format!("arn:alarm:{id}"),
        "NewStateReason": "Threshold crossed" });
    json!({ "Type": "Notification", "MessageId": id, "TopicArn": TOPIC, "Subject": "ALARM: CPU", "Message": alarm.to_string(),
        "Timestamp": "2026-03-01T10:02:12.000Z", "SigningCertURL": format!("https://{host}{CERTIFICATE}") })
}

fn confirmation(token: &str, topic: &str) -> Value {
    json!({ "Type": "SubscriptionConfirmation", "MessageId": token, "Token": token, "TopicArn": topic, "Message": "You have chosen",
        "SubscribeURL": format!("https://{HOST}/?Action=ConfirmSubscription&TopicArn={topic}&Token={token}"),
        "Timestamp": "2026-03-01T10:02:12.000Z", "SigningCertURL": format!("https://{HOST}{CERTIFICATE}") })
}

fn post(surgegate: &Surgegate, body: &Value) -> Answer {
    surgegate.post(&format!("/hooks/sns/{KEY}"), body.to_string())
}

#[test]
fn what_amazon_signed_is_taken_and_what_it_did_not_sign_is_refused() {
    let (recorder, authority, folder) = (Recorder::start(), Authority::new(), tempfile::tempdir().unwrap());
    let signer = Signer::new(folder.path());
    let amazon = amazon(&authority, signer.certificate());
    let surgegate = start(&recorder, &authority, &amazon);
    for (id, digest) in [("m-1", "-sha256"), ("m-2", "-sha1")] {
        let mut body = notification(id, HOST);
        signer.sign(&mut body, digest);
        let answer = post(&surgegate, &body);
        assert_eq!((answer.status, answer.outcome()), (200, "created"), "{digest}: {}", answer.text());
    }
    let mut body = notification("m-3", HOST);
    signer.sign(&mut body, "-sha256");
    for (member, other) in [
        ("Message", "another"),
        ("MessageId", "m-4"),
        ("Subject", "OK: CPU"),
        ("Timestamp", "2026-03-01T10:02:13.000Z"),
        ("TopicArn", "arn:aws:sns:eu-west-1:1:other"),
        ("Signature", "RVhBTVBMRQ=="),
        ("SignatureVersion", "1"),
    ] {
        let mut tampered = body.clone();
        tampered[member] = other.into();
        let answer = post(&surgegate, &tampered);
        assert_eq!((answer.status, &answer.json()["reason"]), (403, &"not_signed".into()), "{member}");
    }
    let mut without = body.clone();
    without.as_object_mut().unwrap().remove("Subject");
    assert_eq!(post(&surgegate, &without).status, 403, "a member that was signed is gone");
    assert_eq!(post(&surgegate, &body).outcome(), "created", "as it was signed");
    assert_eq!(post(&surgegate, &body).outcome(), "replayed", "signed, and known");
    let fetched = amazon.asked();
    assert_eq!(fetched, [format!("GET {CERTIFICATE} HTTP/1.1")], "the certificate is asked for once");

    // Where the certificate cannot be had, nobody says that it is wrong: SNS comes again.
    let mut unknown = notification("m-5", DEAF);
    signer.sign(&mut unknown, "-sha256");
    let answer = post(&surgegate, &unknown);
    assert_eq!((answer.status, &answer.json()["reason"]), (503, &"signature_unchecked".into()), "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    surgegate.wait_until_delivered();
    assert_eq!(recorder.events().len(), 3);
    assert_eq!(recorder.events()[0]["key"], "arn:alarm:m-1");
}

#[test]
fn a_signed_subscription_of_a_listed_topic_is_confirmed_by_one_visit_and_no_other_is() {
    let (recorder, authority, folder) = (Recorder::start(), Authority::new(), tempfile::tempdir().unwrap());
    let signer = Signer::new(folder.path());
    let amazon = amazon(&authority, signer.certificate());
    let surgegate = start(&recorder, &authority, &amazon);
    let visits = || amazon.asked().into_iter().filter(|line| line.contains("ConfirmSubscription")).collect::<Vec<_>>();
    let unsigned = post(&surgegate, &confirmation("unsigned", TOPIC));
    assert_eq!(unsigned.status, 403, "{}", unsigned.text());
    let mut other = confirmation("other", "arn:aws:sns:eu-west-1:1:other");
    signer.sign(&mut other, "-sha256");
    assert_eq!(post(&surgegate, &other).outcome(), "ignored");
    let mut good = confirmation("good", TOPIC);
    signer.sign(&mut good, "-sha256");
    let answer = post(&surgegate, &good);
    assert_eq!((answer.status, answer.outcome()), (200, "ignored"), "{}", answer.text());
    wait_until("the visit", || !visits().is_empty());
    assert!(surgegate.is_said("a subscription of SNS is confirmed"));
    let visited = visits();
    assert_eq!(visited.len(), 1, "{visited:?}");
    assert!(visited[0].contains("Token=good "), "{visited:?}");
    assert_eq!(surgegate.scrape().count("sns_unconfirmed_total", &[]), 1, "the topic that is not listed");
    assert!(!surgegate.said().contains("Token="), "a token is nobody's to read");
}

/// The page's own command, typed to Amazon's command line; topics, signatures and their certificates are those of moto, which
/// stands in for the service.
#[test]
fn the_pages_command_subscribes_and_what_is_published_arrives_with_its_signature_checked() {
    let (recorder, authority) = (Recorder::start(), Authority::new());
    let moto = Moto::start();
    let at = moto.at.clone();
    let amazon = amazon(&authority, move |path| {
        let url = format!("http://{at}{path}");
        // Without it moto does not know which of Amazon's services is meant.
        let scope = "Authorization: AWS4-HMAC-SHA256 Credential=test/20260301/eu-west-1/sns/aws4_request";
        let fetched = Command::new("curl").args(["-sf", "-H", scope, &url]).output().unwrap();
        assert!(fetched.status.success(), "{url}");
        fetched.stdout
    });
    let surgegate = start(&recorder, &authority, &amazon);
    assert_eq!(moto.aws("aws sns create-topic --name alarms")["TopicArn"], TOPIC);
    let page = include_str!("../../docs/senders/sns.md");
    let command = page.split("```sh\n").nth(1).unwrap().split("```").next().unwrap().replace("\\\n", " ");
    let command = command
        .replace("--protocol https", "--protocol http")
        .replace("https://EDGE", &format!("http://{}", surgegate.ingest()))
        .replace("KEY", KEY);
    let subscribed = moto.aws(&command);
    assert!(subscribed["SubscriptionArn"].as_str().is_some_and(|arn| arn.starts_with(TOPIC)), "{subscribed}");

    let alarm = |state: &str| {
        let alarm = json!({ "AlarmName": "CPU", "AlarmArn": "arn:alarm:cpu", "NewStateValue": state,
            "OldStateValue": "OK", "NewStateReason": "Threshold crossed" });
        let id = moto.aws(&format!("aws sns publish --topic-arn {TOPIC} --message '{alarm}'"));
        assert!(id["MessageId"].is_string(), "{id}");
        surgegate.wait_until_delivered();
    };
    alarm("ALARM");
    wait_until("the alarm", || recorder.events().len() == 1);
    alarm("ALARM");
    alarm("OK");
    wait_until("its end", || recorder.events().len() == 2);
    let said = |index: usize| {
        let event = recorder.events()[index].clone();
        [&event["action"], &event["key"], &event["dialect"]].map(|text| text.as_str().unwrap().to_owned())
    };
    assert_eq!(said(0), ["trigger", "arn:alarm:cpu", "sns"]);
    assert_eq!(said(1), ["resolve", "arn:alarm:cpu", "sns"]);
    assert!(amazon.asked().iter().any(|line| line.contains(".pem ")), "the signatures were checked");
    assert_eq!(surgegate.scrape().count("events_received_total", &[]), 3);
}

/// Amazon's side, from PyPI: moto, and the command line that speaks to it.
struct Moto {
    process: Child,
    at: String,
}

impl Moto {
    fn start() -> Self {
        let port = free_port().to_string();
        let mut process = Command::new(tools().join("amazon/bin/moto_server"))
            .args(["-H", "127.0.0.1", "-p", &port])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto: make install-tools");
        let at = format!("127.0.0.1:{port}");
        wait_until("moto", || {
            assert!(process.try_wait().unwrap().is_none(), "moto has ended");
            TcpStream::connect(&at).is_ok()
        });
        Self { process, at }
    }

    /// What a command line answers.
    fn aws(&self, command: &str) -> Value {
        let path = format!("{}:{}", tools().join("amazon/bin").display(), std::env::var("PATH").unwrap());
        let ran = Command::new("sh")
            .args(["-ec", command])
            .env("PATH", path)
            .env("AWS_ENDPOINT_URL", format!("http://{}", self.at))
            .env("AWS_DEFAULT_REGION", "eu-west-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .output()
            .unwrap();
        assert!(ran.status.success(), "{command}: {}", String::from_utf8_lossy(&ran.stderr));
        serde_json::from_slice(&ran.stdout).unwrap()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
