use std::time::{Duration, Instant};

use witgate_runtime::{Direction, Exchange as Inner, Message, PluginFailure, Summary};

use crate::{Exchange, Messages, Plugin};

/// Calls of which the time is taken together: reading a clock costs as much as a small hook.
const BATCH: u32 = 64;

/// # Measuring
///
/// For benchmarks. In a [metered](witgate_runtime::Runtime::metered) runtime calls take longer than in production.
impl Plugin {
    /// How long a call of the request hook takes, in each of so many batches: the mean of 64 calls, each with an
    /// exchange of its own.
    ///
    /// # Errors
    ///
    /// When the plugin fails.
    pub fn time_requests(
        &self,
        batches: u32,
        make: impl Fn() -> Exchange,
    ) -> Result<Vec<Duration>, PluginFailure> {
        let worker = self.worker();
        self.time(batches, make, async |exchange| {
            let (exchange, verdict) = worker.on_request(exchange).await;
            drop(exchange);
            verdict.map(drop)
        })
    }

    /// As [`time_requests`](Self::time_requests), of the response hook, for exchanges that have a response.
    ///
    /// # Errors
    ///
    /// When the plugin fails.
    pub fn time_responses(
        &self,
        batches: u32,
        make: impl Fn() -> Exchange,
    ) -> Result<Vec<Duration>, PluginFailure> {
        let worker = self.worker();
        self.time(batches, make, async |exchange| {
            let (exchange, verdict) = worker.on_response(exchange).await;
            drop(exchange);
            verdict.map(drop)
        })
    }

    /// As [`time_requests`](Self::time_requests), of the completion hook.
    ///
    /// # Errors
    ///
    /// When the plugin fails.
    pub fn time_completions(
        &self,
        batches: u32,
        make: impl Fn() -> Exchange,
        summary: &Summary,
    ) -> Result<Vec<Duration>, PluginFailure> {
        let worker = self.worker();
        self.time(batches, make, async |exchange| {
            let (exchange, told) = worker.on_complete(exchange, summary).await;
            drop(exchange);
            told
        })
    }

    /// How long one message of a WebSocket takes, in each of so many batches: the mean of 64 times the same one.
    ///
    /// # Errors
    ///
    /// When the plugin fails.
    pub fn time_messages(
        &self,
        batches: u32,
        messages: &Messages,
        direction: Direction,
        message: &Message,
    ) -> Result<Vec<Duration>, PluginFailure> {
        let mut times = Vec::new();
        for _ in 0..batches {
            let batch = async {
                let begun = Instant::now();
                for _ in 0..BATCH {
                    messages.pass(direction, message).await?;
                }
                Ok(begun.elapsed() / BATCH)
            };
            times.push(self.stage().run(batch)?);
        }
        Ok(times)
    }

    /// Bytes of the linear memories of one configured instance.
    ///
    /// # Panics
    ///
    /// When one more instance cannot be started.
    pub fn instance_memory(&self) -> usize {
        let measured = self.stage().run(self.worker().plugin().instance_memory());
        measured.unwrap_or_else(|error| panic!("{error}"))
    }

    fn time(
        &self,
        batches: u32,
        make: impl Fn() -> Exchange,
        call: impl AsyncFn(Box<Inner>) -> Result<(), PluginFailure>,
    ) -> Result<Vec<Duration>, PluginFailure> {
        let mut times = Vec::new();
        for _ in 0..batches {
            let exchanges: Vec<_> = (0..BATCH).map(|_| make().into_inner()).collect();
            let batch = async {
                let begun = Instant::now();
                for exchange in exchanges {
                    call(exchange).await?;
                }
                Ok(begun.elapsed() / BATCH)
            };
            times.push(self.stage().run(batch)?);
        }
        Ok(times)
    }
}
