//! Log lines in the form that tools for cloudflared read.

use std::fmt::{self, Write};
use std::io;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::CloudflaredLogFormat;
use crate::process::log::directives;

/// Starts the log of this process. A second start has no effect.
pub(super) fn start(level: &str, format: CloudflaredLogFormat) {
    let registry = tracing_subscriber::registry().with(EnvFilter::new(directives(level)));
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).event_format(LogLines(format));
    if let Err(error) = registry.with(lines).try_init() {
        tracing::debug!(%error, "the log had been started before");
    }
}

struct LogLines(CloudflaredLogFormat);

/// The fields of an event.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.others.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.others.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.others.insert(field.name().to_owned(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.others.insert(field.name().to_owned(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => drop(self.others.insert(name.to_owned(), format!("{value:?}").into())),
        }
    }
}

impl<S, N> FormatEvent<S, N> for LogLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        writeln!(writer, "{}", line(self.0, *event.metadata().level(), &time, fields))
    }
}

/// A line of the log. `time` has a fraction of a second, which is left out.
fn line(format: CloudflaredLogFormat, level: Level, time: &str, fields: Fields) -> String {
    let time = format!("{}Z", time.split(['.', 'Z']).next().unwrap_or_default());
    let Fields { message, mut others } = fields;
    let (short, long) = match level {
        Level::ERROR => ("ERR", "error"),
        Level::WARN => ("WRN", "warn"),
        Level::INFO => ("INF", "info"),
        Level::DEBUG | Level::TRACE => ("DBG", "debug"),
    };
    match format {
        CloudflaredLogFormat::Json => {
            others.insert("level".to_owned(), long.into());
            others.insert("time".to_owned(), time.into());
            others.insert("message".to_owned(), message.into());
            Value::Object(others).to_string()
        }
        CloudflaredLogFormat::Text => {
            let mut line = format!("{time} {short} {message}");
            for (key, value) in others {
                // Writing to a text cannot fail.
                let _ = match value {
                    Value::String(text) if !text.is_empty() && !text.contains([' ', '"', '=', '\n']) => {
                        write!(line, " {key}={text}")
                    }
                    value => write!(line, " {key}={value}"),
                };
            }
            line
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_form_that_tools_read() {
        let fields = || Fields {
            message: "Registered tunnel connection".to_owned(),
            others: [("connIndex", Value::from(0)), ("ip", "198.51.100.1".into()), ("why", "a b".into())]
                .map(|(key, value)| (key.to_owned(), value))
                .into_iter()
                .collect(),
        };
        let time = "2026-11-20T10:57:33.123456Z";
        let text = line(CloudflaredLogFormat::Text, Level::INFO, time, fields());
        assert_eq!(
            text,
            "2026-11-20T10:57:33Z INF Registered tunnel connection connIndex=0 ip=198.51.100.1 why=\"a b\""
        );
        let json: Value =
            serde_json::from_str(&line(CloudflaredLogFormat::Json, Level::ERROR, time, fields())).unwrap();
        assert_eq!((&json["level"], &json["message"]), (&"error".into(), &"Registered tunnel connection".into()));
        assert_eq!((&json["time"], &json["connIndex"]), (&"2026-11-20T10:57:33Z".into(), &0.into()));
    }
}
