//! Any bytes as what a credential service, `credential_process` or a shared file of AWS says:
//! no panic, and a secret is in
//! no message.
#![no_main]

use http::StatusCode;
use libfuzzer_sys::fuzz_target;
use lsfast::store::credentials::fuzzing;

const SECRET: &str = "HUSHhush0123456789abcdefHUSHhush01234567";

fuzz_target!(|input: &[u8]| {
    let _ = fuzzing::json_answer(input);
    let Some((status, body)) = input.split_first() else { return };
    let status = StatusCode::from_u16(400 + u16::from(*status)).expect("a number of three digits");
    let shown = fuzzing::refusal(status, body);
    assert!(!shown.contains(|c: char| c.is_control()), "{shown:?}");
    let Ok(text) = std::str::from_utf8(body) else { return };
    if text.contains("HUSH") {
        return;
    }
    for is_config in [false, true] {
        let file = format!("[default]\naws_secret_access_key = {SECRET}\n{text}");
        assert!(!fuzzing::profile_file(&file, is_config).contains(SECRET));
        assert!(!fuzzing::profile_file(&format!("{text}{SECRET}"), is_config).contains(&format!("={SECRET}")));
    }
    for json in [
        format!("{{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"{SECRET}\",{text}}}"),
        format!("{{\"SecretAccessKey\":\"{SECRET}\"{text}"),
    ] {
        let shown = fuzzing::json_answer(json.as_bytes());
        assert!(!shown.contains(SECRET), "{shown}\n{json}");
        let shown = fuzzing::refusal(status, json.as_bytes());
        assert!(!shown.contains(SECRET), "{shown}\n{json}");
    }
});
