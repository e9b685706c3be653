//! What callers took of what they may, added up in Redis by its own clock: for each caller when all of it will have come back
//! (the theoretical arrival time of a GCRA).

use crate::{RedisCache, link::unavailable};
use async_trait::async_trait;
use omt_kernel::{Error, Kind, Result, port::SharedPace};
use std::time::Duration;

/// For each key the time in microseconds that was taken; gives in how many microseconds everything is back.
const SETTLE: &str = r"
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local back = {}
for n, key in ipairs(KEYS) do
  local at = math.max(tonumber(redis.call('GET', key) or '0'), now) + tonumber(ARGV[n])
  redis.call('SET', key, string.format('%.0f', at), 'PX', math.max(1, math.ceil((at - now) / 1000)))
  back[n] = string.format('%.0f', at - now)
end
return back
";
/// Callers in one call, since nothing else runs in the server meanwhile.
const AT_ONCE: usize = 500;

#[async_trait]
impl SharedPace for RedisCache {
    async fn settle(&self, taken: &[(String, Duration)]) -> Result<Vec<Duration>> {
        let script = redis::Script::new(SETTLE);
        let mut out = Vec::with_capacity(taken.len());
        for some in taken.chunks(AT_ONCE) {
            let mut call = script.prepare_invoke();
            for (caller, time) in some {
                call.key(format!("{}pace:{caller}", self.prefix)).arg(time.as_micros().to_string());
            }
            let asked = self.link.ask(async |connection| call.invoke_async::<Vec<String>>(connection).await).await;
            let away = || Error::new(Kind::Unavailable, "CACHE_UNAVAILABLE", "the cache does not answer").retry_after(1);
            let back = asked.ok_or_else(away)?;
            for micros in back {
                let micros =
                    micros.parse().map_err(|_| unavailable(redis::RedisError::from((redis::ErrorKind::Parse, "no number"))))?;
                out.push(Duration::from_micros(micros));
            }
        }
        Ok(out)
    }
}
