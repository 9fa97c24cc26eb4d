//! What the fuzz targets do with an input: read it in every way that a server or client does, and
//! compare what comes of it with what has to. Any panic is a finding.

mod authenticated_request;
mod channel_data;
mod decode;

pub use authenticated_request::authenticated_request;
pub use channel_data::channel_data;
pub use decode::decode;
