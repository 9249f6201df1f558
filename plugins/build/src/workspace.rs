//! Which package of a workspace a name stands for, and what it says of itself.

use std::process::Command;

use serde::Deserialize;

use crate::Metadata;

/// What `cargo metadata` says, as far as it matters here.
#[derive(Deserialize)]
struct Workspace {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    id: String,
    version: String,
    authors: Vec<String>,
    license: Option<String>,
    description: Option<String>,
}

/// A package that is to be built.
pub(crate) struct Wanted {
    /// What cargo takes to mean the workspace's own package, also where a dependency has the same name. Where cargo does
    /// not know it, the name itself: the build that follows says what is wrong.
    pub(crate) specification: String,
    /// What its manifest says of it.
    pub(crate) metadata: Metadata,
}

/// Those of these names, in their order.
pub(crate) fn wanted(cargo: &mut Command, names: &[String]) -> Vec<Wanted> {
    let workspace = cargo
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .ok()
        .and_then(|output| serde_json::from_slice::<Workspace>(&output.stdout).ok());
    let packages = workspace.map_or(Vec::new(), |workspace| workspace.packages);
    let of = |name: &String| match packages.iter().find(|package| package.name == *name) {
        Some(package) => Wanted {
            specification: package.id.clone(),
            metadata: package.metadata(),
        },
        None => Wanted {
            specification: name.clone(),
            metadata: Metadata::default(),
        },
    };
    names.iter().map(of).collect()
}

impl Package {
    fn metadata(&self) -> Metadata {
        Metadata {
            name: Some(self.name.clone()),
            version: Some(self.version.clone()),
            authors: (!self.authors.is_empty()).then(|| self.authors.join(", ")),
            licenses: self.license.clone(),
            description: self.description.clone(),
        }
    }
}
