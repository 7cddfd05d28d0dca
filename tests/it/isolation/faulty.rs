//! An application that panics in one place.

use std::error::Error;
use std::fmt;
use std::panic::{panic_any, resume_unwind};
use std::sync::{Arc, Mutex};

use hailer::auth::connect::{Answer, Connect, ConnectRequest};
use hailer::auth::{Identity, IdentityParts, UnixTime};
use hailer::channel::{Channel, ChannelError, ChannelHandle, Context, Ended, Info, JoinError, PayloadBuf};
use hailer::endpoint::{PlainMessage, PlainSocket};
use hailer::http::Status;
use hailer::phoenix::Payload;
use hailer::service::{Service, ServiceReply, ServiceRequest};

/// Without the message of the panic hook, which would fill the output of the tests.
pub(super) fn panic_on_purpose() -> ! {
    resume_unwind(Box::new("on purpose"))
}

/// Panics when it is dropped.
pub(super) struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_on_purpose();
    }
}

/// The same, with a payload of its own kind, without end.
struct Chain;

impl Drop for Chain {
    fn drop(&mut self) {
        resume_unwind(Box::new(Chain));
    }
}

/// An error that panics when it is asked for what its name says, or when it is dropped.
#[derive(Debug)]
struct BadError(&'static str);

impl fmt::Display for BadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == "Error::fmt" { panic_on_purpose() } else { f.write_str("on purpose") }
    }
}

impl Error for BadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        if self.0 == "Error::source" { panic_on_purpose() } else { None }
    }
}

impl Drop for BadError {
    fn drop(&mut self) {
        if self.0 == "drop of an error" {
            panic_on_purpose();
        }
    }
}

/// All that an application gives to the library; it panics in the place of this name.
pub(super) struct Faulty {
    pub(super) place: &'static str,
    pub(super) handles: Arc<Mutex<Vec<ChannelHandle>>>,
}

impl Faulty {
    pub(super) fn new(place: &'static str) -> Self {
        Self { place, handles: Arc::default() }
    }

    /// The application's code runs here.
    fn at(&self, place: &str) {
        if self.place == place {
            panic_on_purpose();
        }
    }
}

impl Channel for Faulty {
    fn join(&self, topic: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<PayloadBuf, JoinError> {
        if self.place == "drop of assigns" {
            // Each of them is dropped, though the one before has panicked.
            cx.assigns_mut().insert(Bomb);
            cx.assigns_mut().insert(Chain);
            cx.assigns_mut().insert(Arc::clone(&self.handles));
        }
        if payload.as_json_str() == Some(r#""refuse""#) {
            return Err(JoinError::reason("unauthorized"));
        }
        if payload.as_json_str() == Some(r#""fail""#) {
            return Err(BadError(self.place).into());
        }
        self.at("Channel::join");
        if topic == "faulty:by itself" {
            self.at("Channel::join, by itself");
        }
        Ok(PayloadBuf::empty())
    }

    fn handle_in(&self, event: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        match event {
            "fail" => return Err(BadError(self.place).into()),
            "payload" => resume_unwind(Box::new(Chain)),
            "payload with a hook" => panic_any(7),
            "both" => {
                // Dropped while the panic unwinds; guarded, it does not abort.
                let _info = Info::new(Bomb);
                panic_on_purpose();
            }
            "stop" => cx.stop(),
            "handle" => self.handles.lock().expect("no panic with it").push(cx.handle()),
            "secret" => cx.broadcast("secret", payload.into()),
            _ => {
                self.at("Channel::handle_in");
                cx.reply_ok(PayloadBuf::empty());
            }
        }
        Ok(())
    }

    fn intercepts(&self) -> &'static [&'static str] {
        self.at("Channel::intercepts");
        &["secret"]
    }

    fn handle_out(&self, event: &str, _: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        self.at("Channel::handle_out");
        cx.push(event, PayloadBuf::reason("through handle_out"));
        Ok(())
    }

    fn handle_info(&self, info: Info, _: &mut Context<'_>) -> Result<(), ChannelError> {
        if self.place == "drop of an Info, unwinding" {
            // What is dropped with the argument panics as well.
            let _info = info;
            panic_on_purpose();
        }
        self.at("Channel::handle_info");
        Ok(())
    }

    fn handle_renewal(&self, _: &mut Context<'_>) -> Result<(), ChannelError> {
        self.at("Channel::handle_renewal");
        Ok(())
    }

    fn terminate(&self, _: Ended, _: &mut Context<'_>) {
        self.at("Channel::terminate");
    }
}

impl PlainSocket for Faulty {
    fn handle(&self, message: PlainMessage<'_>, send: &mut dyn FnMut(PlainMessage<'_>)) {
        send(message);
        self.at("PlainSocket::handle");
    }
}

impl Service for Faulty {
    fn call(&self, _: &ServiceRequest, _: u64) -> ServiceReply {
        self.at("Service::call");
        ServiceReply::new(Status::NoContent)
    }
}

impl Connect for Faulty {
    fn connect(&self, request: ConnectRequest, _: UnixTime, answer: Answer) {
        if request.token.is_some_and(|token| token.expose() == "faulty") {
            self.at("Connect::connect");
        }
        let assigns: Option<Arc<dyn std::any::Any + Send + Sync>> =
            if self.place == "drop of what an identity assigns" { Some(Arc::new(Bomb)) } else { None };
        answer.send(Ok(Identity::new(IdentityParts { user: "ada", assigns, ..Default::default() })));
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.at("drop of a handler");
    }
}
