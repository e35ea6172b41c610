-- Decides one request by all of its central limits at once: it charges all of them or none.
--
-- KEYS: the counts, one for each limit, and then those of slots to free. ARGV[1]: JSON
-- {limits, id, now, free}. id: name of the request, for its slots. free: slots of earlier requests
-- of the same process, {number of the key, id, count}.
-- Returns integers: admitted (1 or 0; -1 if no calendar window of a quota holds the instant), the
-- time, then for each limit: wait (0 now, -1 never, -2 unknown), remaining, and time until it is
-- full (-1 never, -2 unknown).

local asked = cjson.decode(ARGV[1])
local now = clock(asked.now)

for _, gone in ipairs(asked.free) do
  for from = 1, gone[3], 1000 do
    local members = {}
    for n = from, math.min(gone[3], from + 999) do members[#members + 1] = gone[2] .. ':' .. n end
    redis.call('ZREM', KEYS[gone[1]], unpack(members))
  end
end

local looks, admitted, answer = {}, 1, {0, now}
for i, limit in ipairs(asked.limits) do
  local algorithm = algorithms[limit[1]]
  local state = algorithm.load(KEYS[i], limit, now)
  if not state then return {-1, now} end
  local wait = algorithm.wait(limit, state, limit[2], now)
  looks[i] = {algorithm, state, wait}
  if wait ~= 0 and not limit[3] then admitted = 0 end
end
for i, limit in ipairs(asked.limits) do
  local algorithm, state, wait = unpack(looks[i])
  if admitted == 1 and wait == 0 and limit[2] > 0 then
    algorithm.take(limit, state, limit[2], now)
  end
  answer[#answer + 1] = wait
  answer[#answer + 1] = algorithm.left(limit, state)
  answer[#answer + 1] = algorithm.reset_after(limit, state, now)
  if admitted == 1 and wait == 0 and limit[2] > 0 then
    algorithm.save(KEYS[i], limit, state, now, asked.id)
  end
end
answer[1] = admitted
return answer
