//! A chat on axum, tuned for a fan-out: one thread, a task and a place in tokio's broadcast channel for each client,
//! the text shared and not copied until it is framed, small buffers, and what waits written at once.

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt;
use futures_util::SinkExt;
use tokio::net::TcpSocket;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver, Sender};

/// Messages that the channel keeps for those who are behind; the runs publish fewer.
const MESSAGES_KEPT: usize = 4096;

/// tungstenite's own defaults are 128 KiB for each, and the first of them is taken for every connection.
const READ_BUFFER_BYTES: usize = 512;
/// What is gathered before it is written: a burst of small messages is one write.
const WRITE_BUFFER_BYTES: usize = 16 << 10;

const BACKLOG: u32 = 4096;

fn main() -> std::io::Result<()> {
    let Some(port) = std::env::args().nth(1).and_then(|port| port.parse().ok()) else {
        eprintln!("usage: axum-chat PORT");
        std::process::exit(2);
    };
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(serve(port))
}

async fn serve(port: u16) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    let listener = socket.listen(BACKLOG)?;
    println!("listening {}", listener.local_addr()?.port());
    let listener = listener.tap_io(|stream| {
        // Without it the connection is merely slower.
        let _ = stream.set_nodelay(true);
    });
    let (to_all, _) = broadcast::channel(MESSAGES_KEPT);
    axum::serve(listener, Router::new().fallback(any(upgrade)).with_state(to_all)).await
}

async fn upgrade(upgrade: WebSocketUpgrade, State(to_all): State<Sender<Message>>) -> Response {
    // Before the answer, so that a client that has it misses nothing.
    let published = to_all.subscribe();
    upgrade.read_buffer_size(READ_BUFFER_BYTES).write_buffer_size(WRITE_BUFFER_BYTES).on_upgrade(
        async move |socket| {
            // An error is the end of the connection, and nobody is told.
            let _ = chat(socket, published, to_all).await;
        },
    )
}

async fn chat(
    mut socket: WebSocket,
    mut published: Receiver<Message>,
    to_all: Sender<Message>,
) -> Result<(), axum::Error> {
    loop {
        tokio::select! {
            biased;
            message = published.recv() => match message {
                Ok(message) => write(&mut socket, message, &mut published).await?,
                Err(RecvError::Lagged(missed)) => eprintln!("axum-chat: {missed} messages are lost"),
                Err(RecvError::Closed) => return Ok(()),
            },
            message = socket.recv() => match message {
                // There is a receiver: this one.
                Some(Ok(message @ Message::Text(_))) => _ = to_all.send(message),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
        }
    }
}

/// Writes the message and all that wait behind it.
async fn write(
    socket: &mut WebSocket,
    message: Message,
    published: &mut Receiver<Message>,
) -> Result<(), axum::Error> {
    socket.feed(message).await?;
    while let Ok(message) = published.try_recv() {
        socket.feed(message).await?;
    }
    socket.flush().await
}
