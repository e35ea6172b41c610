-- Notes that a process lives, and returns how many do. KEYS[1]: a sorted set of processes with the
-- time at which each counts as gone. ARGV[1]: JSON {id, span, now}; span: microseconds until then, 0
-- to leave at once.

local asked = cjson.decode(ARGV[1])
local now = clock(asked.now)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
if asked.span > 0 then
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + asked.span), asked.id)
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(asked.span / 1000) * 4))
else
  redis.call('ZREM', KEYS[1], asked.id)
end
return redis.call('ZCARD', KEYS[1])
