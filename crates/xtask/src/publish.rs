//! `cargo xtask publish`: every crate of the platform to the internal registry, and nowhere else.
//!
//! A release that was broken off is taken up again by the same command: what is there already with the same bytes is left
//! alone, and nothing is published at all while something there has other bytes.

mod index;
mod licences;
mod packages;
mod sbom;
mod semver;
mod tag;

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use clap::Args;

use crate::failure::{Failure, Result, on_path};
use crate::workspace::Workspace;
use crate::{process, tools};

pub(crate) use index::{Index, path_of};
pub(crate) use packages::{published_in_order, sha256};

/// The one registry there is for these crates.
pub(crate) const REGISTRY: &str = "internal";

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask publish --registry internal --dry-run       check, package, and say what would be published
  cargo xtask publish --registry internal --tag v0.1.0    publish the release that this tag names

The token comes from CARGO_REGISTRIES_INTERNAL_TOKEN. The tree has to be clean, and the tag has to name the version, the
commit that is checked out and a commit of main. Bill of materials, licences and checksums are written to
target/publish. The same command goes on with a release that was broken off.")]
pub(crate) struct PublishArgs {
    /// The registry: `internal`, and no other
    #[arg(long)]
    registry: String,
    /// The release's tag; default: the version's, if it is on this commit
    #[arg(long)]
    tag: Option<String>,
    /// Do everything but the uploads
    #[arg(long)]
    dry_run: bool,
    /// Do not build each package as it will be downloaded
    #[arg(long)]
    no_verify: bool,
    /// What can't be checked here is a failure, not a line SKIPPED: for the release pipeline
    #[arg(long)]
    strict: bool,
}

pub(crate) fn run(workspace: &Workspace, args: &PublishArgs) -> Result<()> {
    let index = Index::internal(workspace, &args.registry)?;
    let packages = published_in_order(&workspace.members()?)?;
    let version = packages::shared_version(&packages)?;
    let tag = tag::check(workspace, &version, args.tag.as_deref())?;
    println!("release {tag}: {} crates to {}", packages.len(), index.url());

    for (what, outcome) in [
        ("public interfaces", semver::check(workspace, &packages, &tag)),
        ("licences and sources", deny(workspace)),
    ] {
        match outcome? {
            Checked::Passed(figure) => println!("{what}: {figure}"),
            Checked::Skipped(why) if args.strict => {
                return Err(format!("{what} can't be checked: {why}").into());
            }
            Checked::Skipped(why) => println!("SKIPPED: {what} are NOT checked: {why}"),
        }
    }

    let files = packages::package(workspace, &packages, !args.no_verify)?;
    let papers = write_papers(workspace, &packages, &version, &files)?;
    println!("bill of materials, licences and checksums: {}", papers.display());

    let missing = packages::missing(&index, &files)?;
    if args.dry_run {
        missing
            .iter()
            .for_each(|file| println!("would publish {} {version}", file.name));
        println!("nothing was uploaded");
        return Ok(());
    }
    let started = Instant::now();
    for file in &missing {
        packages::publish(workspace, file)?;
    }
    for file in &files {
        index.read_back(file)?;
    }
    println!(
        "published {} of {} crates, {} were there already; all read back, in {:.1} s",
        missing.len(),
        files.len(),
        files.len() - missing.len(),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// What became of a check, when nothing was wrong.
enum Checked {
    Passed(String),
    /// And why.
    Skipped(String),
}

fn deny(workspace: &Workspace) -> Result<Checked> {
    let deny = match tools::CARGO_DENY.ensure(workspace) {
        Ok(program) => program,
        Err(failure) => {
            return Ok(Checked::Skipped(format!(
                "cargo-deny is not to be had: {failure}"
            )));
        }
    };
    process::run_quietly(Command::new(deny).args([
        "--all-features",
        "check",
        "licenses",
        "bans",
        "sources",
    ]))?;
    Ok(Checked::Passed("as deny.toml says".to_owned()))
}

/// What goes along with a release, besides the crates.
fn write_papers(
    workspace: &Workspace,
    packages: &[crate::workspace::Package],
    version: &str,
    files: &[packages::File],
) -> Result<PathBuf> {
    let papers = workspace.target().join("publish");
    std::fs::create_dir_all(&papers).map_err(on_path(&papers))?;
    let write = |name: String, text: String| {
        let path = papers.join(name);
        std::fs::write(&path, text).map_err(on_path(&path))
    };
    let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    // A crate can be built with any of its features, for any platform; the image is one program for one platform.
    let crates = sbom::Graph::read(workspace, &["--all-features"])?;
    let bill = crates.bill_of_materials("zhuji", version, &names)?;
    write(format!("zhuji-{version}.cdx.json"), bill)?;
    let image = sbom::Graph::read(workspace, &["--filter-platform", "x86_64-unknown-linux-gnu"])?;
    let bill = image.bill_of_materials("literature", version, &["literature"])?;
    write(format!("literature-{version}.cdx.json"), bill)?;
    let licences = licences::text(workspace, &crates.reachable(&names)?);
    write(format!("zhuji-{version}-licences.txt"), licences)?;
    let sums: String = files
        .iter()
        .map(|file| format!("{}  {}-{}.crate\n", file.checksum, file.name, file.version))
        .collect();
    write("SHA256SUMS".to_owned(), sums)?;
    Ok(papers)
}

impl From<std::string::FromUtf8Error> for Failure {
    fn from(error: std::string::FromUtf8Error) -> Self {
        Self::new(error.to_string())
    }
}
