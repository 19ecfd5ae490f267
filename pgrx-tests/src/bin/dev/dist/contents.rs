//! What is in a package, and what its control data say; all that the two formats differ in.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};
use flate2::{Compression, GzBuilder};

use audit_algolia_tests::cargo;
use audit_algolia_tests::server::extension_files;

use super::library::Library;
use super::licences;
use super::release::Release;

/// The kinds of package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Debian's, with the folders and names of its PostgreSQL.
    Deb,
    /// For Red Hat's systems, with the folders and names of the PostgreSQL project's packages.
    Rpm,
}

/// A package to be.
pub(super) struct Package<'a> {
    pub(super) major: u32,
    pub(super) format: Format,
    pub(super) release: &'a Release,
    /// Names of packages it cannot do without.
    pub(super) depends: Vec<String>,
    pub(super) files: Vec<PackageFile>,
}

/// A file of a package: its path in the system, what it is to the package's format, and its content.
pub(super) struct PackageFile {
    pub(super) path: String,
    pub(super) kind: Kind,
    pub(super) content: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Documentation,
    Licence,
}

pub(super) const SUMMARY: &str = "keeps an Algolia index in step with PostgreSQL audit tables";
pub(super) const DESCRIPTION: &str = "\
A trigger copies the allowed columns of each change into a queue table, in the
writer's own transaction. Background workers of the server send the rows to
Algolia, newest first. Identifiers leave the database only as pseudonyms.
.
The library has to be named in shared_preload_libraries.";

/// The folders whose files are for users, and what they are called in a package.
const DOCUMENTS: [(&str, &str); 3] =
    [("docs", "docs"), ("docs/screenshots", "docs/screenshots"), ("sql/examples", "examples")];

impl Package<'_> {
    pub(super) fn new<'a>(library: &Library, format: Format, release: &'a Release) -> Result<Package<'a>> {
        let (path, major) = (&library.path, library.major);
        ensure!(library.has_build_id()?, "{} has no build-id", path.display());
        let glibc = library.glibc()?;
        let depends = match format {
            Format::Deb => vec![
                format!("postgresql-{major}"),
                format!("libc6 (>= {glibc})"),
                "libgcc-s1 (>= 4.2)".to_owned(),
            ],
            Format::Rpm => {
                vec![format!("postgresql{major}-server"), format!("libc.so.6(GLIBC_{glibc})(64bit)")]
            }
        };
        let mut package = Package { major, format, release, depends, files: Vec::new() };
        package.add_extension(path)?;
        package.add_documents()?;
        package.add_licences()?;
        Ok(package)
    }

    pub(super) fn name(&self) -> String {
        match self.format {
            Format::Deb => format!("postgresql-{}-audit-algolia", self.major),
            Format::Rpm => format!("audit_algolia_{}", self.major),
        }
    }

    fn add(&mut self, path: String, kind: Kind, content: impl Into<Vec<u8>>) {
        self.files.push(PackageFile { path, kind, content: content.into() });
    }

    fn add_extension(&mut self, library: &Path) -> Result<()> {
        let major = self.major;
        let (libraries, extensions) = match self.format {
            Format::Deb => (
                format!("/usr/lib/postgresql/{major}/lib"),
                format!("/usr/share/postgresql/{major}/extension"),
            ),
            Format::Rpm => (format!("/usr/pgsql-{major}/lib"), format!("/usr/pgsql-{major}/share/extension")),
        };
        self.add(format!("{libraries}/audit_algolia.so"), Kind::Plain, fs::read(library)?);
        for (name, content) in extension_files()? {
            self.add(format!("{extensions}/{name}"), Kind::Plain, content);
        }
        Ok(())
    }

    fn add_documents(&mut self) -> Result<()> {
        let folder = self.documents();
        self.add(format!("{folder}/README.md"), Kind::Documentation, read("README.md")?);
        for (from, to) in DOCUMENTS {
            for file in files_in(&cargo::workspace().join(from))? {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                self.add(format!("{folder}/{to}/{name}"), Kind::Documentation, fs::read(&file)?);
            }
        }
        let changelog = read("CHANGELOG.md")?;
        let (name, changelog) = match self.format {
            Format::Deb => ("changelog.gz", gzip(&changelog)?),
            Format::Rpm => ("CHANGELOG.md", changelog),
        };
        self.add(format!("{folder}/{name}"), Kind::Documentation, changelog);
        Ok(())
    }

    fn add_licences(&mut self) -> Result<()> {
        let (ours, theirs) = (read("LICENSE")?, licences::texts()?);
        match self.format {
            Format::Deb => {
                let folder = self.documents();
                self.add(format!("{folder}/copyright"), Kind::Licence, debian_copyright(&ours));
                self.add(format!("{folder}/crates.txt.gz"), Kind::Licence, gzip(theirs.as_bytes())?);
            }
            Format::Rpm => {
                let folder = format!("/usr/share/licenses/{}", self.name());
                self.add(format!("{folder}/LICENSE"), Kind::Licence, ours);
                self.add(format!("{folder}/crates.txt"), Kind::Licence, theirs);
            }
        }
        Ok(())
    }

    fn documents(&self) -> String {
        format!("/usr/share/doc/{}", self.name())
    }
}

/// In Debian's format for programs.
fn debian_copyright(licence: &[u8]) -> String {
    let licence = String::from_utf8_lossy(licence).into_owned();
    let (holder, text) = licence.split_once('\n').unwrap_or((licence.as_str(), ""));
    let indented: String = text
        .trim()
        .lines()
        .map(|line| if line.is_empty() { " .\n".to_owned() } else { format!(" {line}\n") })
        .collect();
    format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: audit_algolia\n\
         Comment: The library contains the Rust crates that crates.txt.gz lists with their licences.\n\n\
         Files: *\nCopyright: {}\nLicense: PostgreSQL\n{indented}",
        holder.trim_start_matches("Copyright (c) ")
    )
}

fn read(path: &str) -> Result<Vec<u8>> {
    let path = cargo::workspace().join(path);
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The files in a folder, without those in its folders, by name.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.retain(|path| path.is_file());
    paths.sort();
    Ok(paths)
}

/// Without a name and a time, which would differ each time.
fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let mut gz = GzBuilder::new().write(Vec::new(), Compression::best());
    gz.write_all(content)?;
    Ok(gz.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copyright_names_holder_and_licence() {
        let text = debian_copyright(b"Copyright (c) 2026, somebody\n\nPermission.\n\nNo warranty.\n");
        assert!(text
            .contains("\nFiles: *\nCopyright: 2026, somebody\nLicense: PostgreSQL\n Permission.\n .\n No"));
    }

    #[test]
    fn packages_are_named_as_the_distributions_do() {
        let release = Release { version: "1.0.0", revision: 1, maintainer: String::new(), epoch: 0 };
        let named =
            |format| Package { major: 17, format, release: &release, depends: vec![], files: vec![] }.name();
        assert_eq!(named(Format::Deb), "postgresql-17-audit-algolia");
        assert_eq!(named(Format::Rpm), "audit_algolia_17");
    }
}
