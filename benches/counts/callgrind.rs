//! Instructions of the kernels, counted by callgrind in one run of this program under valgrind.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::bounds::Measured;
use crate::kernels;

/// What callgrind counts, and after which it writes what it has counted: the whole name, no
/// pattern.
const COUNTED: &str = "counts::callgrind::counted_kernel";

/// The one function that is counted, from its call to its return: it must not be inlined, nor its
/// call become a jump.
#[inline(never)]
fn counted_kernel(run: &mut dyn FnMut()) {
    run();
    std::hint::black_box(());
}

/// In the process under valgrind: each kernel once for what is made at its first use, then once
/// more, counted.
pub fn child() {
    stop_if_other_code_would_run();
    for kernel in &mut kernels::all() {
        (kernel.run)();
        counted_kernel(&mut kernel.run);
    }
}

/// The bounds are those of the code for AVX2, which valgrind offers only if the processor has it.
fn stop_if_other_code_would_run() {
    #[cfg(target_arch = "x86_64")]
    let same =
        std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(not(target_arch = "x86_64"))]
    let same = false;
    if !same {
        std::process::exit(OTHER_CODE);
    }
}

/// How the child says that there is nothing to compare.
const OTHER_CODE: i32 = 77;

/// The counts, or why there are none on this machine.
pub fn measure(scratch: &Path) -> anyhow::Result<Result<Vec<Measured>, String>> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        return Ok(Err(String::from("valgrind is missing: install it, as by apt-get install valgrind")));
    }
    let out = scratch.join("callgrind");
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--dump-after={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .arg("--kernels-child")
        .status()
        .context("valgrind does not start")?;
    if status.code() == Some(OTHER_CODE) {
        return Ok(Err(String::from(
            "the processor, or this valgrind, has no AVX2: other code would be counted",
        )));
    }
    anyhow::ensure!(status.success(), "valgrind ended with {status}");
    let mut counts = BTreeMap::new();
    for (i, kernel) in kernels::all().iter().enumerate() {
        let path = out.with_extension(format!("{}", i + 1));
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("callgrind left no {}", path.display()))?;
        let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
        let total: f64 = total.context("callgrind wrote no total")?.trim().parse()?;
        anyhow::ensure!(total > 0.0, "callgrind counted nothing for {}", kernel.name);
        counts.insert(kernel.name, total / kernel.units as f64);
    }
    Ok(Ok(rows(&|name: &str| counts[name])))
}

fn rows(of: &dyn Fn(&str) -> f64) -> Vec<Measured> {
    let row = |name, value| Measured { part: "kernels", name, value };
    vec![
        row("WAL checksum, instructions per MiB", of("checksum")),
        row("WAL checksum, share of the plain loop", of("checksum") / of("plain loop")),
        row("WAL scan, instructions per frame", of("scan")),
        row("LTX encode, instructions per page beyond bare LZ4", of("encode") - of("bare compress")),
        row("LTX encode, share of bare LZ4", of("encode") / of("bare compress")),
        row("LTX encode of one page, share of bare LZ4", of("encode one page") / of("bare compress")),
        row("LTX decode, instructions per page beyond bare LZ4", of("decode") - of("bare decompress")),
        row("LTX decode, share of bare LZ4", of("decode") / of("bare decompress")),
        row("LTX decode by ranges, share of bare LZ4", of("decode ranges") / of("bare decompress")),
        row("merge, instructions per page beyond decoding", of("merge") - of("read alone")),
        row("page hash, instructions per page", of("page hash")),
        row("CRC-64, instructions per MiB", of("crc64")),
        row("signature, instructions per request", of("sign")),
        row("listing, instructions per entry", of("list")),
    ]
}
