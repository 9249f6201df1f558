//! Which package of a workspace a name stands for.

use std::process::Command;

use serde::Deserialize;

/// What `cargo metadata` says, as far as it matters here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    id: String,
}

/// For each name what cargo takes to mean the workspace's own package, also where a dependency has the same name. Where
/// cargo does not know it, the name itself: the build that follows says what is wrong.
pub(crate) fn specifications(cargo: &mut Command, names: &[String]) -> Vec<String> {
    let metadata = cargo
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .ok()
        .and_then(|output| serde_json::from_slice::<Metadata>(&output.stdout).ok());
    let own = |name: &String| {
        let packages = &metadata.as_ref()?.packages;
        let package = packages.iter().find(|package| package.name == *name)?;
        Some(package.id.clone())
    };
    names
        .iter()
        .map(|name| own(name).unwrap_or_else(|| name.clone()))
        .collect()
}
