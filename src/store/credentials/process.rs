//! `credential_process`: a program that prints keys as JSON.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use super::answer::Answer;
use super::fetch::Fetched;
use super::http::{failed, for_now, quote};
use crate::base::limits;
use crate::config::CredentialError;
use crate::io::{end_group, own};

/// Runs `command` in the shell, as the AWS SDKs do, for at most `time`.
pub(super) async fn run(command: &str, profile: &str, time: Duration) -> Result<Fetched, CredentialError> {
    let name = format!("the credential_process of profile {profile}");
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let (mut child, _own) =
        own(|| shell.spawn(), Child::id).map_err(|e| failed(format!("{name} cannot be started: {e}")))?;
    let mut group = Group(child.id());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let work = async {
        let (out, err) = tokio::join!(bounded(stdout), bounded(stderr));
        let (out, err) = (out?, err?);
        Ok::<_, std::io::Error>((out, err, child.wait().await?))
    };
    let (out, err, status) = match tokio::time::timeout(time, work).await {
        Ok(Ok(done)) => {
            group.0 = None;
            done
        }
        Ok(Err(e)) => return Err(for_now(format!("{name} cannot be read: {e}"))),
        Err(_) => return Err(for_now(format!("{name} did not end within {}s", time.as_secs_f32()))),
    };
    if out.len() > limits::CREDENTIAL_BYTES {
        return Err(failed(format!("{name} printed more than {} bytes", limits::CREDENTIAL_BYTES)));
    }
    if !status.success() {
        let said = quote(&String::from_utf8_lossy(&err));
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        return Err(for_now(format!("{name} ended with {status}{said}")));
    }
    let answer = Answer::read(&name, &out)?;
    if answer.version != Some(1) {
        return Err(failed(format!("{name} must print \"Version\": 1")));
    }
    answer.credentials(&name, name.clone())
}

/// The process group of the shell. It is ended on drop: when the program takes too long, and when
/// the caller gives up.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // An error means that the group is empty.
            _ = end_group(leader);
        }
    }
}

/// Reads to the end, but at most one byte more than is allowed.
async fn bounded(from: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(limits::CREDENTIAL_BYTES as u64 + 1).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn said(command: &str) -> Result<String, String> {
        let ran = run(command, "p", Duration::from_secs(30)).await;
        ran.map(|f| f.credentials.access_key_id).map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn what_a_program_prints() {
        let json = r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"s"}"#;
        assert_eq!(said(&format!("echo '{json}'")).await, Ok("A".into()));
        for (command, words) in [
            ("echo oops >&2; exit 3", "of profile p ended with exit status: 3: oops"),
            ("echo '{}'", "must print \"Version\": 1"),
            ("echo hush", "answered no JSON (line 1"),
            ("yes", "printed more than 65536 bytes"),
        ] {
            let e = said(command).await.unwrap_err();
            assert!(e.contains(words) && !e.contains("hush"), "{command}: {e}");
        }
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_killed() {
        let e = run("exec sleep 3600", "p", Duration::from_millis(50)).await.unwrap_err();
        assert!(e.to_string().contains("did not end within 0.05s"), "{e}");
    }

    #[tokio::test]
    async fn what_a_program_has_started_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let time = Duration::from_secs(2);
        let command = format!("sleep 3600 & echo $! > '{}'; wait", file.display());
        run(&command, "p", time).await.unwrap_err();
        let pid = std::fs::read_to_string(file).unwrap();
        let stat = std::path::Path::new("/proc").join(pid.trim()).join("stat");
        // Gone, or a zombie that waits for its parent.
        let ended = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
        let limit = std::time::Instant::now() + Duration::from_secs(20);
        while !ended() && std::time::Instant::now() < limit {
            tokio::task::yield_now().await;
        }
        assert!(ended(), "{}", pid.trim());
    }
}
