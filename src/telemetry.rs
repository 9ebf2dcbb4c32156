//! Logs: to stdout, as text or JSON, and to the operations log in v1.0.0's place and in its form:
//! `2022/10/20 03:33:48 INFO src/file.rs:12 message key=value`.
//!
//! What is logged on behalf of a request ends in `request=<id>`.

mod oplog;

use std::fmt::{self, Write as _};
use std::path::Path;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::FormattedFields;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{self as logs, FmtContext};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::clock::Clock;
use crate::config::LogFormat;
use oplog::OpLog;

/// Name of the operations log, as in v1.0.0.
const FILE: &str = "gcu-upgrade-manager.log";

/// Starts logging. `filter` is in tracing's form, for example `info` or `gcu_upgrade_manager=debug`. A log
/// directory that cannot be written costs one warning, nothing else.
pub fn start(filter: &str, format: LogFormat, log_dir: Option<&Path>) {
    let (oplog, failure) = match log_dir.map(|dir| OpLog::open(dir, FILE)) {
        None => (None, None),
        Some(Ok(log)) => (Some(log), None),
        Some(Err(error)) => (None, Some(error)),
    };
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let like_v1 = || LikeV1 { clock: Clock::system() };
    // A line that cannot be written is lost. To say so on stderr, which may be on the same full disk, would panic.
    let stdout = match format {
        LogFormat::Text => logs::layer().log_internal_errors(false).event_format(like_v1()).boxed(),
        LogFormat::Json => logs::layer()
            .json()
            .log_internal_errors(false)
            .flatten_event(true)
            .with_timer(Rfc3339 { clock: Clock::system() })
            .boxed(),
    };
    let file =
        oplog.map(|log| logs::layer().log_internal_errors(false).event_format(like_v1()).with_writer(log));
    // Its lines are whole answers of the API server, manifests among them, and manifests may hold secrets. What it has
    // to say comes to its callers as errors.
    let discreet = filter_fn(|meta| meta.target() != "kube_client::client");
    // A second start in the same process (tests) keeps the first.
    let _ = tracing_subscriber::registry().with(filter).with(discreet).with(stdout).with(file).try_init();
    if let (Some(dir), Some(error)) = (log_dir, failure) {
        tracing::warn!("cannot write logs to {}: {error}; they go to stdout alone", dir.display());
    }
}

struct LikeV1 {
    clock: Clock,
}

impl<S, N> FormatEvent<S, N> for LikeV1
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        let level = if *meta.level() == Level::WARN { "WARNING" } else { meta.level().as_str() };
        let now = self.clock.now().strftime("%Y/%m/%d %H:%M:%S");
        // A library's path is that of the machine it was built on: its module says more.
        let file = meta.file().filter(|f| f.starts_with("src/")).unwrap_or(meta.target());
        let line = meta.line().unwrap_or_default();
        let mut text = String::new();
        ctx.format_fields(Writer::new(&mut text), event)?;
        for span in ctx.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                write!(text, " {fields}")?;
            }
        }
        write!(writer, "{now} {level} {file}:{line} ")?;
        // Names and error texts come from outside: a line break in one must not make a second log line.
        for c in text.chars() {
            if c.is_control() { write!(writer, "{}", c.escape_default())? } else { write!(writer, "{c}")? }
        }
        writeln!(writer)
    }
}

/// The time in JSON lines.
struct Rfc3339 {
    clock: Clock,
}

impl FormatTime for Rfc3339 {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", self.clock.now())
    }
}
