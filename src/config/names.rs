//! The names of parameters, and what a mistyped name was probably meant to be.

/// Every known parameter, as documented.
pub(super) const PARAMETERS: [&str; 14] = [
    "endpoint",
    "region",
    "force-path-style",
    "skip-verify",
    "ca-cert",
    "sign-payload",
    "checksum",
    "require-content-md5",
    "storage-class",
    "part-size",
    "concurrency",
    "sse-kms-key-id",
    "requester-pays",
    "expected-bucket-owner",
];

/// How many letters may differ between a mistyped name and the suggested one.
const DISTANCE_MAX: usize = 3;

/// The common form of `force-path-style`, `forcePathStyle` and `force_path_style`.
pub(super) fn fold(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).collect()
}

/// The parameter that was probably meant by `name`.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    nearest_of(PARAMETERS, name)
}

/// The known name that was probably meant by `name`.
pub(super) fn nearest_of<'n>(names: impl IntoIterator<Item = &'n str>, name: &str) -> Option<&'n str> {
    let name = fold(name);
    names
        .into_iter()
        .map(|n| (distance(&fold(n), &name), n))
        .min()
        .filter(|(d, n)| *d <= DISTANCE_MAX && *d * 2 <= n.len())
        .map(|(_, n)| n)
}

/// Number of letters to insert, remove or replace between `a` and `b` (Levenshtein distance).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
