//! The one place of the library that knows async: a thread that drives the HTTP clients, and byte
//! streams that come out of it as [`Read`].

use std::future::Future;
use std::io::{self, Read};
use std::sync::{Arc, mpsc};
use std::thread;

use futures_util::{Stream, StreamExt};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;

use super::error::SourceError;

/// Bytes of one stream that may wait for their reader.
const BYTES_IN_FLIGHT: u32 = 8 << 20;

/// A thread that runs futures until the value is dropped.
pub(super) struct Runtime {
    handle: Handle,
    /// Dropping it ends the thread, and with it everything that still runs there.
    _keep_running: oneshot::Sender<()>,
}

impl Runtime {
    pub fn start() -> Result<Arc<Runtime>, SourceError> {
        let failed = |source| SourceError::NetworkThread { source };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let handle = runtime.handle().clone();
        let (keep_running, stopped) = oneshot::channel::<()>();
        thread::Builder::new()
            .name("network".to_owned())
            .spawn(move || {
                // Both a message and the sender's end mean: stop.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_background();
            })
            .map_err(failed)?;
        Ok(Arc::new(Runtime {
            handle,
            _keep_running: keep_running,
        }))
    }

    /// Runs `future` to its end.
    pub fn wait<T: Send + 'static, E: From<SourceError> + Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E> {
        let (answer, answered) = mpsc::channel();
        self.handle.spawn(async move {
            // The receiver waits below; it cannot be gone.
            let _ = answer.send(future.await);
        });
        answered.recv().unwrap_or_else(|_| Err(died().into()))
    }

    /// Starts `stream` and returns once its first bytes (or its error) are here.
    pub fn read<B>(
        self: &Arc<Self>,
        stream: impl Stream<Item = Result<B, SourceError>> + Send + 'static,
    ) -> Result<ByteReader<B>, SourceError>
    where
        B: AsRef<[u8]> + Send + 'static,
    {
        let budget = Arc::new(Semaphore::new(BYTES_IN_FLIGHT as usize));
        let (chunks, received) = mpsc::channel();
        let pump = self.handle.spawn(pump(stream, chunks, Arc::clone(&budget)));
        let mut reader = ByteReader {
            chunks: received,
            current: None,
            position: 0,
            ended: false,
            budget,
            pump: pump.abort_handle(),
            _runtime: Arc::clone(self),
        };
        reader.next_chunk()?;
        Ok(reader)
    }
}

fn died() -> SourceError {
    SourceError::NetworkThread {
        source: io::Error::other("it ended unexpectedly"),
    }
}

/// How much of the budget `bytes` take; a chunk above all of it waits until it is alone.
fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).map_or(BYTES_IN_FLIGHT, |bytes| bytes.min(BYTES_IN_FLIGHT))
}

/// A chunk, or `None` at the stream's proper end: a channel that merely closes means that the
/// thread died.
type Message<B> = Option<Result<B, SourceError>>;

async fn pump<B: AsRef<[u8]>>(
    stream: impl Stream<Item = Result<B, SourceError>>,
    chunks: mpsc::Sender<Message<B>>,
    budget: Arc<Semaphore>,
) {
    let mut stream = std::pin::pin!(stream);
    while let Some(chunk) = stream.next().await {
        if let Ok(bytes) = &chunk {
            let wanted = permits(bytes.as_ref().len());
            match budget.acquire_many(wanted).await {
                // The reader gives them back when it has read the chunk.
                Ok(taken) => taken.forget(),
                Err(_) => return,
            }
        }
        let failed = chunk.is_err();
        if chunks.send(Some(chunk)).is_err() || failed {
            return;
        }
    }
    let _ = chunks.send(None);
}

/// Reads the bytes of a stream; dropping it closes the stream's connection.
pub(super) struct ByteReader<B> {
    chunks: mpsc::Receiver<Message<B>>,
    current: Option<B>,
    position: usize,
    ended: bool,
    budget: Arc<Semaphore>,
    pump: AbortHandle,
    _runtime: Arc<Runtime>,
}

impl<B: AsRef<[u8]>> ByteReader<B> {
    fn next_chunk(&mut self) -> Result<(), SourceError> {
        if let Some(read) = self.current.take() {
            self.budget
                .add_permits(permits(read.as_ref().len()) as usize);
        }
        self.position = 0;
        match self.chunks.recv() {
            Ok(Some(Ok(chunk))) => self.current = Some(chunk),
            Ok(Some(Err(error))) => return Err(error),
            Ok(None) => self.ended = true,
            Err(mpsc::RecvError) => return Err(died()),
        }
        Ok(())
    }
}

impl<B: AsRef<[u8]>> Read for ByteReader<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.ended {
            let chunk = self.current.as_ref().map_or(&[][..], AsRef::as_ref);
            let mut rest = chunk.get(self.position..).unwrap_or_default();
            if !rest.is_empty() || buffer.is_empty() {
                let count = rest.read(buffer)?;
                self.position += count;
                return Ok(count);
            }
            self.next_chunk()?;
        }
        Ok(0)
    }
}

impl<B> Drop for ByteReader<B> {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures_util::stream;

    use super::*;

    #[test]
    fn chunks_come_out_as_one_stream_of_bytes() {
        let runtime = Runtime::start().unwrap();
        let chunks: Vec<Result<Vec<u8>, SourceError>> =
            vec![Ok(vec![1, 2, 3]), Ok(vec![]), Ok(vec![4])];
        let mut reader = runtime.read(stream::iter(chunks)).unwrap();
        drop(runtime);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(all, [1, 2, 3, 4]);
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn a_first_error_is_returned_at_once_and_a_later_one_while_reading() {
        let runtime = Runtime::start().unwrap();
        let fail = || Err::<Vec<u8>, _>(SourceError::StandardInputGone);
        assert!(runtime.read(stream::iter([fail()])).is_err());
        let mut reader = runtime.read(stream::iter([Ok(vec![1]), fail()])).unwrap();
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        let error = SourceError::from_read(error, |_| unreachable!());
        assert!(matches!(error, SourceError::StandardInputGone));
    }

    #[test]
    fn a_slow_reader_bounds_what_is_in_flight() {
        let runtime = Runtime::start().unwrap();
        let made = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let endless = stream::repeat_with(move || {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(vec![7u8; 1 << 20])
        });
        let mut reader = runtime.read(endless).unwrap();
        thread::sleep(Duration::from_millis(200));
        // Eight chunks fit; the next one is made and waits.
        assert!(made.load(Ordering::SeqCst) <= 9, "{made:?}");
        let mut buffer = vec![0; 20 << 20];
        reader.read_exact(&mut buffer).unwrap();
        assert!(made.load(Ordering::SeqCst) >= 20);
        drop(reader);
        thread::sleep(Duration::from_millis(50));
        let after = made.load(Ordering::SeqCst);
        thread::sleep(Duration::from_millis(50));
        assert_eq!(made.load(Ordering::SeqCst), after);
    }

    #[test]
    fn dropping_the_reader_ends_a_stream_that_waits_forever() {
        struct Told(mpsc::Sender<()>);
        impl Drop for Told {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let runtime = Runtime::start().unwrap();
        let (told, dropped) = mpsc::channel();
        let told = Told(told);
        let silent = stream::pending::<Result<Vec<u8>, SourceError>>().map(move |item| {
            let _ = &told;
            item
        });
        let first = stream::iter([Ok(vec![1u8])]);
        let reader = runtime.read(first.chain(silent)).unwrap();
        drop(reader);
        dropped.recv_timeout(Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn a_panic_on_the_network_thread_is_an_error_here() {
        let runtime = Runtime::start().unwrap();
        let result = runtime.wait::<(), SourceError>(async { panic!("expected by this test") });
        assert!(matches!(result, Err(SourceError::NetworkThread { .. })));
    }
}
