-- What wrk sends with its one thread, and what it prints at the end: one line of JSON.
--
--   wrk … -s load.lua URL -- EXPECT MODE [FILE FROM [EVERY]]
--
--   EXPECT   the status that every answer must have
--   MODE     same       the request of the command line again and again
--            each       each request with the next token of FILE, from line FROM on, once
--            turn       the same, beginning again after FILE's first EVERY lines
--            sometimes  each EVERY-th request with the next token of FILE, the others with that of the command line

local tokens, own, every, counter = {}, nil, 0, 0
-- Global, because `done` runs elsewhere and asks the thread for them.
expect, unexpected, used, exhausted = 200, 0, 0, 0

local COOKIE = "theme=dark; __Host-wechat_session="

local function with(token)
  wrk.headers["Cookie"] = COOKIE .. token
  return wrk.format("GET", wrk.path)
end

local function next_token()
  used = used + 1
  local token = tokens[used]
  if not token then
    exhausted = 1
    return tokens[#tokens]
  end
  return token
end

local threads = {}
function setup(thread) table.insert(threads, thread) end

function init(args)
  expect = tonumber(args[1])
  local mode, file, from = args[2], args[3], tonumber(args[4] or "0")
  every = tonumber(args[5] or "0")
  if mode ~= "same" then
    -- Only what this run can use: a line more than it sends in its time, and `most` bounds that.
    local most, number = 400000, 0
    for line in io.lines(file) do
      if mode == "turn" then
        if number >= every then break end
        tokens[number + 1] = line
      elseif number >= from and number < from + most then
        tokens[number - from + 1] = line
      end
      number = number + 1
    end
  end
  if mode == "each" then
    request = function() return with(next_token()) end
  elseif mode == "turn" then
    used = from % every
    request = function()
      used = used % every + 1
      return with(tokens[used])
    end
  elseif mode == "sometimes" then
    own = wrk.format("GET", wrk.path)
    request = function()
      counter = counter + 1
      if counter % every ~= 0 then return own end
      return with(next_token())
    end
  end
  -- wrk itself counts what is above 399; looking at each answer costs it time, so only where that does not do.
  if expect ~= 200 then
    response = function(status)
      if status ~= expect then unexpected = unexpected + 1 end
    end
  end
end

function done(summary, latency)
  local failed, thread = summary.errors, threads[1]
  local wrong = thread:get("expect") == 200 and failed.status or thread:get("unexpected")
  io.write(string.format(
    '{"requests":%d,"micros":%d,"errors":%d,"p50_us":%d,"p99_us":%d,"used":%d,"exhausted":%d}\n',
    summary.requests, summary.duration, wrong + failed.connect + failed.read + failed.write + failed.timeout,
    latency:percentile(50), latency:percentile(99), thread:get("used"), thread:get("exhausted")))
end
