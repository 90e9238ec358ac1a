//! The result of one check, which is one line of `lsfast doctor`.

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is right.
    Ok,
    /// It works, but the user should look at it.
    Warn,
    /// It does not work.
    Fail,
    /// The check was not made, because an earlier one failed.
    Skipped,
}

impl Verdict {
    /// `ok`, `warn`, `fail` or `skip`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
            Verdict::Skipped => "skip",
        }
    }
}

/// One check and its result. No text in it contains a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Short name of the check.
    pub name: &'static str,
    /// Result of the check.
    pub verdict: Verdict,
    /// What the check found.
    pub detail: String,
    /// What to do, unless `detail` says it.
    pub advice: Option<String>,
}

impl Finding {
    /// A finding that everything is right.
    pub fn ok(name: &'static str, detail: impl Into<String>) -> Finding {
        Finding { name, verdict: Verdict::Ok, detail: detail.into(), advice: None }
    }

    /// A finding that it works, but the user should look at it.
    pub fn warn(name: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { name, verdict: Verdict::Warn, detail: detail.into(), advice: Some(advice.into()) }
    }

    /// A finding that it does not work; `detail` or [`advise`](Finding::advise) says what to do.
    pub fn fail(name: &'static str, detail: impl Into<String>) -> Finding {
        Finding { name, verdict: Verdict::Fail, detail: detail.into(), advice: None }
    }

    /// A finding that the check was not made.
    pub fn skipped(name: &'static str, why: impl Into<String>) -> Finding {
        Finding { name, verdict: Verdict::Skipped, detail: why.into(), advice: None }
    }

    /// Adds advice on what to do.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Finding {
        self.advice = Some(advice.into());
        self
    }
}

/// Receives the findings, each as soon as it is known.
pub type Tell<'a> = &'a mut dyn FnMut(Finding);
