//! Whether this checkout is the release that it says it is.

use std::process::Command;

use crate::failure::Result;
use crate::process;
use crate::workspace::Workspace;

/// The tag of this release: the tree is clean, and the tag names the version, this commit and a commit of main.
pub(super) fn check(workspace: &Workspace, version: &str, given: Option<&str>) -> Result<String> {
    let expected = format!("v{version}");
    let changed = git(workspace, &["status", "--porcelain"])?;
    if let Some(first) = changed.lines().next() {
        return Err(format!("the tree is not clean ({}): commit or remove it", first.trim()).into());
    }
    let tag = given.unwrap_or(&expected);
    if tag != expected {
        return Err(format!(
            "the tag is {tag}, but the crates have the version {version}: it has to be {expected}"
        )
        .into());
    }
    let commit = git(
        workspace,
        &[
            "rev-parse",
            "--verify",
            "--quiet",
            &format!("refs/tags/{tag}^{{commit}}"),
        ],
    )
    .map_err(|_| format!("there is no tag {tag}: git tag {tag} && git push origin {tag}"))?;
    let head = git(workspace, &["rev-parse", "HEAD"])?;
    if commit != head {
        return Err(format!("the tag {tag} is on another commit: git checkout {tag}").into());
    }
    // In a pipeline there is no local branch; a rehearsal has no remote.
    let main = ["refs/remotes/origin/main", "refs/heads/main"]
        .into_iter()
        .find(|name| git(workspace, &["rev-parse", "--verify", "--quiet", name]).is_ok())
        .ok_or("there is no branch main here: git fetch origin main")?;
    if git(workspace, &["merge-base", "--is-ancestor", &head, main]).is_err() {
        return Err(format!("the tag {tag} is not on main: only what was merged is released").into());
    }
    Ok(tag.to_owned())
}

/// The release before this one, if there is any.
pub(super) fn before(workspace: &Workspace, tag: &str) -> Result<Option<String>> {
    let tags = git(
        workspace,
        &[
            "tag",
            "--list",
            "v*",
            "--merged",
            "HEAD",
            "--sort=-version:refname",
        ],
    )?;
    Ok(tags.lines().find(|known| *known != tag).map(ToOwned::to_owned))
}

pub(super) fn git(workspace: &Workspace, arguments: &[&str]) -> Result<String> {
    let output = process::run_quietly(Command::new("git").args(arguments).current_dir(workspace.root()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
