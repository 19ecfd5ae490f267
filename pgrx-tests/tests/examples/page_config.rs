//! What the audit page is told of the examples and of the demo is what `web/examples` has, which its tests begin with.

use std::fs;

use audit_algolia_tests::cargo::{target_dir, workspace};
use audit_algolia_tests::stage::one;
use audit_algolia_tests::worked_examples::SCRIPTS;
use audit_algolia_tests::workload::{create_table, PAGE_CONFIG, WATCH};
use serde_json::Value;

use crate::run;

/// The configuration of a page that is told nothing of where to ask: that differs from run to run.
fn without_hosts(mut config: Value) -> Value {
    let members = config.as_object_mut().unwrap();
    for name in ["application_id", "hosts"] {
        assert!(members.remove(name).is_some(), "page_config() tells no {name}");
    }
    config
}

#[test]
fn the_configurations_of_the_pages_examples_are_what_page_config_makes() {
    let stage = crate::stage();
    let mut admin = stage.admin();
    let mut wrong = Vec::new();
    let mut known: Vec<String> = Vec::new();
    let mut compare = |name: &str, config: Value| {
        let file = workspace().join("web/examples").join(name).with_extension("json");
        let found: Value = fs::read_to_string(&file)
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        let (config, mut found) = (without_hosts(config), found);
        // A title is a matter of taste, and of no rule.
        if let (Some(found), None) = (found.as_object_mut(), config.get("title")) {
            found.remove("title");
        }
        if found != config {
            let right = target_dir().join("examples").join(name).with_extension("json");
            fs::create_dir_all(right.parent().unwrap()).unwrap();
            fs::write(&right, serde_json::to_string_pretty(&config).unwrap()).unwrap();
            wrong.push(format!("{} (right: {})", file.display(), right.display()));
        }
    };
    for script in SCRIPTS {
        run(&stage, "postgres", script);
        let indices: Vec<String> =
            one(&mut admin, "select array_agg(distinct index_name::text) from audit_algolia.sources");
        let own: Vec<String> = indices.iter().filter(|name| !known.contains(name)).cloned().collect();
        let config = admin.query_one("select audit_algolia.page_config($1::text[])", &[&own]).unwrap().get(0);
        compare(script.trim_end_matches(".sql"), config);
        known = indices;
    }
    create_table(&mut admin).unwrap();
    admin.batch_execute(WATCH).unwrap();
    compare("demo", one(&mut admin, PAGE_CONFIG));
    assert!(
        wrong.is_empty(),
        "out of date, to be copied and formatted by npm run format: {}",
        wrong.join("\n")
    );
}
