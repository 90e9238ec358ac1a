//! Any text as a config file: no panic, no endless work, and a secret is in no message and in
//! no explanation.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lsfast::config::{Config, Env, Overrides};

const SECRET: &str = "HUSH-HUSH";

fuzz_target!(|input: &str| {
    let env = Env::new([("A", "x"), ("HOME", "/home/me"), ("EMPTY", "")]).in_directory("/srv");
    let none = Overrides::default();
    let load = |text: &str, expand| match Config::load(text, "x.yml", &none, &env, expand) {
        Ok(config) => {
            let lines = config.explain();
            for name in ["/srv/a.db", "b/c.db"] {
                let _ = config.database(name.as_ref(), &env);
            }
            format!("{lines:?} {config:?}")
        }
        Err(e) => format!("{e} {e:?}"),
    };
    load(input, true);
    load(input, false);
    if !input.contains("HUSH") {
        for text in [
            format!("secret-access-key: {SECRET}{input}"),
            format!("dbs:\n  - path: a\n    replica:\n      url: s3://bucket/a\n      session-token: {SECRET}\n{input}"),
        ] {
            let said = load(&text, true);
            assert!(!said.contains(SECRET), "{said}\n{text}");
        }
    }
});
