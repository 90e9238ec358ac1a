//! Byte streams to a server, as connectors open them.

use std::error::Error as StdError;

use http::Uri;
use tower_service::Service;

pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// A byte stream to a server.
pub trait Io: hyper::rt::Read + hyper::rt::Write + Send + Unpin {}

impl<T: hyper::rt::Read + hyper::rt::Write + Send + Unpin> Io for T {}

/// Opens a stream with a connector of any kind.
pub(super) async fn open<C>(mut connector: C, to: Uri) -> Result<Box<dyn Io>, BoxError>
where
    C: Service<Uri>,
    C::Response: Io + 'static,
    C::Error: Into<BoxError>,
{
    std::future::poll_fn(|cx| connector.poll_ready(cx)).await.map_err(Into::into)?;
    Ok(Box::new(connector.call(to).await.map_err(Into::into)?))
}
