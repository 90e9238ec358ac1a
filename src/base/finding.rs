//! What a check found out: one line of `doctor`.

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but somebody should know.
    Warn,
    /// It does not work.
    Fail,
    /// It could not be tried, because something before it failed.
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

/// One check and its end. No text holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was checked.
    pub name: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
    /// What to do, where the detail does not say it.
    pub advice: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(name: &'static str, detail: impl Into<String>) -> Finding {
        Finding { name, verdict: Verdict::Ok, detail: detail.into(), advice: None }
    }

    /// It works, but.
    pub fn warn(name: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { name, verdict: Verdict::Warn, detail: detail.into(), advice: Some(advice.into()) }
    }

    /// It does not work; the detail says what to do.
    pub fn fail(name: &'static str, detail: impl Into<String>) -> Finding {
        Finding { name, verdict: Verdict::Fail, detail: detail.into(), advice: None }
    }

    /// It was not tried.
    pub fn skipped(name: &'static str, why: impl Into<String>) -> Finding {
        Finding { name, verdict: Verdict::Skipped, detail: why.into(), advice: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Finding {
        self.advice = Some(advice.into());
        self
    }
}

/// Where findings go, one after the other, as they are known.
pub type Tell<'a> = &'a mut dyn FnMut(Finding);
