use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{ServerError, give_away};

/// A private authority and a certificate it signed for the name `localhost` (and no other).
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// An authority that signed nothing here.
    pub(crate) stranger: PathBuf,
}

impl Certificates {
    pub(crate) fn make(directory: &Path) -> Result<Self, ServerError> {
        let file = |name: &str| directory.join(name);
        let all = Self {
            authority: file("ca.crt"),
            certificate: file("server.crt"),
            key: file("server.key"),
            stranger: file("stranger.crt"),
        };
        make_authority(&all.authority, &file("ca.key"), "zhuji test authority")?;
        make_authority(&all.stranger, &file("stranger.key"), "somebody else")?;
        let request = file("server.csr");
        let extensions = file("server.ext");
        std::fs::write(
            &extensions,
            "subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\n",
        )
        .map_err(|error| ServerError::io(extensions.display(), &error))?;
        let mut command = new_key(&all.key, "localhost");
        command.arg("-out").arg(&request);
        run(command)?;
        let mut command = Command::new("openssl");
        command.args(["x509", "-req", "-days", "30", "-CAcreateserial"]);
        command
            .arg("-in")
            .arg(&request)
            .arg("-CA")
            .arg(&all.authority)
            .arg("-CAkey")
            .arg(file("ca.key"));
        command
            .arg("-extfile")
            .arg(&extensions)
            .arg("-out")
            .arg(&all.certificate);
        run(command)?;
        // PostgreSQL refuses a key that others may read, or that neither it nor root owns.
        give_away(&all.key)?;
        Ok(all)
    }
}

fn make_authority(certificate: &Path, key: &Path, name: &str) -> Result<(), ServerError> {
    let mut command = new_key(key, name);
    command.args([
        "-x509",
        "-days",
        "30",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
    ]);
    command.arg("-out").arg(certificate);
    run(command)
}

fn new_key(key: &Path, name: &str) -> Command {
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-new",
        "-nodes",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
    ]);
    command
        .arg("-subj")
        .arg(format!("/CN={name}"))
        .arg("-keyout")
        .arg(key);
    command
}

fn run(mut command: Command) -> Result<(), ServerError> {
    let output = command
        .output()
        .map_err(|error| ServerError::io("openssl could not be run (apt-get install -y openssl)", &error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(ServerError::new(format!(
        "openssl failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}
