// Whole engines, scripted, over loopback: what a pool is told of them.
#include "ingest/ingest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "ingest/test_engine.h"
#include "io/test_loop.h"

namespace warmpath::ingest {
namespace {

using blocks::PublisherState;
using std::chrono::milliseconds;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::prompt_ids;
using testing::stored;
using testing::TestEngine;
using testing::TestPublisher;
using testing::TestSink;

struct IngestTest : ::testing::Test {
  IngestTest() {
    options.scrape_interval = milliseconds(20);
    options.health_interval = milliseconds(30);
    options.resolve_interval = milliseconds(50);
    options.ask_timeout = std::chrono::seconds(5);
    options.pool = "p";
    options.follower.replay_idle_max = milliseconds(100);
    options.follower.backoff_first = milliseconds(10);
  }
  void start(std::vector<EngineAddress> engines) {
    ingest = std::make_unique<Ingest>(loop, options, options.follow_events ? &index : nullptr, sink, registry);
    for (EngineAddress& engine : engines) ingest->add(std::move(engine));
    ingest->start();
  }
  template <class Predicate>
  bool until(Predicate predicate) {
    return io::RunUntil(loop, predicate);
  }
  std::uint32_t depth(std::uint32_t engine, std::uint64_t prompt, std::uint64_t blocks = 8) {
    index::MatchTable table;
    index.match(index.space().chain(prompt_ids(prompt, blocks), {}), table);
    const auto* row = table.find(EngineId(engine));
    return row == nullptr ? 0 : row->depth(blocks::Tier::kGpu);
  }
  bool reopened(TestPublisher& publisher) {
    return until([&] { return publisher.open(); });
  }
  bool reopened(TestEngine& engine) {
    return until([&] { return engine.open(); });
  }
  void tell_sources(TestEngine& engine, const std::map<std::uint32_t, const TestPublisher*>& ranks) {
    engine.pages["/kv_event_sources"] = {200, TestEngine::sources(ranks)};
  }
  EngineStatus status(std::size_t i = 0) {
    const auto all = ingest->status();
    return i < all.size() ? all[i] : EngineStatus{};
  }

  io::Loop loop;
  index::Index index{{.space = blocks::KeySpace(7, "qwen", testing::kBlockTokens)}};
  observe::Registry registry;
  TestSink sink;
  IngestOptions options;
  std::unique_ptr<Ingest> ingest;
};

TEST_F(IngestTest, FindsAnEngineAndFollowsItsEvents) {
  TestEngine engine(loop);
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  publisher.lose({stored(1, 0, 3)});
  tell_sources(engine, {{0, &publisher}});
  engine.pages["/metrics"] = {200, TestEngine::page(3, 2)};
  start({engine.address()});
  ASSERT_TRUE(until([&] { return sink.exact(0) && sink.up(0); }));
  const Found& found = sink.found.at(EngineId(0));
  EXPECT_EQ(found.info.name, "http://127.0.0.1:" + std::to_string(engine.port()));
  EXPECT_EQ(found.info.rank, std::nullopt);
  EXPECT_THAT(found.info.models, ElementsAre("qwen"));
  EXPECT_EQ(found.info.block_tokens, 16u);
  EXPECT_EQ(found.info.kv_tokens, 8'192u);
  EXPECT_TRUE(found.info.has_events);
  EXPECT_EQ(found.models.at(0).root, "/models/qwen");
  EXPECT_EQ(found.origin.address.port, engine.port());
  // The first page is a sample already.
  ASSERT_TRUE(sink.samples.contains(EngineId(0)));
  EXPECT_EQ(sink.samples[EngineId(0)].running, 3u);
  EXPECT_EQ(sink.samples[EngineId(0)].waiting, 2u);
  EXPECT_EQ(depth(0, 1), 3u);
  publisher.publish({stored(1, 3, 1)});
  ASSERT_TRUE(until([&] { return depth(0, 1) == 4; }));
  engine.pages["/metrics"].body = TestEngine::page(9, 0);
  ASSERT_TRUE(until([&] { return sink.samples[EngineId(0)].running == 9; }));
  const EngineStatus now = status();
  EXPECT_EQ(now.liveness, fleet::Liveness::kUp);
  EXPECT_EQ(now.events, publisher.live_endpoint());
  EXPECT_TRUE(now.has_events);
  EXPECT_TRUE(now.heard);
  EXPECT_EQ(now.publisher, PublisherState::kExact);
  EXPECT_EQ(now.batches, 2u);
  EXPECT_EQ(now.blocks_held, 4u);
  EXPECT_EQ(now.models, "qwen");
  EXPECT_EQ(now.why_not, "");
  EXPECT_THAT(sink.warnings, IsEmpty());
  EXPECT_THAT(registry.expose(), HasSubstr("warmpath_engine_up{engine=\"" + now.name + "\",pool=\"p\"} 1"));
}

// The cap takes blocks for other engines' sake: what is written down of this one is no longer exact, heard of or not.
TEST_F(IngestTest, WhatLostBlocksSinceItsLastBatchIsNotHeldAsExact) {
  TestEngine engine(loop);
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  publisher.lose({stored(1, 0, 3)});
  tell_sources(engine, {{0, &publisher}});
  index::Index small{{.space = blocks::KeySpace(7, "qwen", testing::kBlockTokens), .bytes_max = 200'000}};
  options.scrape_interval = std::chrono::hours(1);
  ingest = std::make_unique<Ingest>(loop, options, &small, sink, registry);
  ingest->add(engine.address());
  ingest->start();
  ASSERT_TRUE(until([&] { return sink.exact(0) && sink.up(0); }));
  const std::string name = ingest->followed().at(0);
  auto held = ingest->hold(name);
  ASSERT_TRUE(held);
  EXPECT_EQ(held->standing.mark.trust, PublisherState::kExact);
  ingest->release(name);
  for (std::uint64_t prompt = 2; small.blocks_evicted(EngineId(0)) == 0; ++prompt) {
    ASSERT_LT(prompt, 10'000u);
    const blocks::KvEvent event = stored(prompt, 0, 20);
    small.apply(EngineId(7), {&event, 1});
  }
  held = ingest->hold(name);
  ASSERT_TRUE(held);
  EXPECT_EQ(held->standing.mark.trust, PublisherState::kPartial);
  ingest->release(name);
  ingest.reset();
}

TEST_F(IngestTest, AsksServerInfoWhereEventSourcesAreNotKnown) {
  TestEngine engine(loop);
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  const auto port = [](const std::string& endpoint) { return endpoint.substr(endpoint.rfind(':') + 1); };
  engine.pages["/server_info"] = {200,
                                  R"({"kv_events":{"publisher":"zmq","endpoint_host":"0.0.0.0","endpoint_port_base":)" +
                                      port(publisher.live_endpoint()) +
                                      R"(,"topic":"","block_size":64,"dp_size":1,"replay_endpoint_port_base":)" +
                                      port(publisher.replay_endpoint()) + "}}"};
  engine.pages.erase("/metrics");  // SGLang without --enable-metrics
  start({engine.address()});
  ASSERT_TRUE(until([&] { return sink.exact(0); }));
  EXPECT_EQ(sink.found.at(EngineId(0)).info.block_tokens, 64u);
  EXPECT_TRUE(sink.up(0));
  publisher.publish({stored(1, 0, 2)});
  ASSERT_TRUE(until([&] { return depth(0, 1) == 2; }));
  ASSERT_TRUE(until([&] {
    return registry.counter("warmpath_engine_scrapes_failed_total", "", {{"pool", "p"}, {"engine", status().name}})
               .value() > 2;
  }));
  EXPECT_TRUE(sink.up(0));
}

// SGLang pushes its load; while it does, the page is not asked for it.
TEST_F(IngestTest, PushedLoadStandsForThePageWhileItComes) {
  TestEngine engine(loop);
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  io::ZmqOptions pub;
  pub.kind = io::ZmqKind::kPub;
  pub.attach = io::ZmqOptions::Attach::kBind;
  pub.endpoint = "tcp://127.0.0.1:*";
  auto load = io::ZmqSocket::open(loop, pub, {});
  ASSERT_TRUE(load.ok());
  const auto port = [](const std::string& endpoint) { return endpoint.substr(endpoint.rfind(':') + 1); };
  engine.pages["/metrics"] = {200, TestEngine::page(1, 1)};
  engine.pages["/server_info"] = {200, R"({"kv_events":{"publisher":"zmq","endpoint_host":"*","endpoint_port_base":)" +
                                           port(publisher.live_endpoint()) + R"(,"load_endpoint_port_base":)" +
                                           port((*load)->bound_endpoint()) + R"(,"load_topic":"load"}})"};
  // ["LoadStat", 40, 7, 512, 2048]
  const std::string gauge("\x95\xa8LoadStat\x28\x07\xcd\x02\x00\xcd\x08\x00", 18);
  std::uint64_t seq = 0;
  const auto push = [&](const std::string& payload) {
    const std::span bytes(reinterpret_cast<const std::uint8_t*>(payload.data()), payload.size());
    (*load)->send(events::make_live("load", PublisherSeq(seq++), bytes));
  };
  start({engine.address()});
  ASSERT_TRUE(until([&] { return sink.up(0) && sink.samples.contains(EngineId(0)); }));
  EXPECT_EQ(sink.samples.at(EngineId(0)).waiting, 1u);
  push("\xc1");  // no gauge: nothing happens
  ASSERT_TRUE(until([&] {
    push(gauge);
    return sink.samples.at(EngineId(0)).waiting == 7u;
  }));
  EXPECT_EQ(sink.samples.at(EngineId(0)).running, 40u);
  EXPECT_EQ(sink.samples.at(EngineId(0)).kv_usage, 0.25);
  // While it comes, a page says nothing of load.
  const int asked = engine.asked["/metrics"];
  bool page_spoke = false;
  ASSERT_TRUE(until([&] {
    push(gauge);
    page_spoke = page_spoke || sink.samples.at(EngineId(0)).waiting == 1u;
    return engine.asked["/metrics"] >= asked + 2;
  }));
  EXPECT_FALSE(page_spoke);
  // It falls silent: the page speaks again.
  ASSERT_TRUE(until([&] { return sink.samples.at(EngineId(0)).waiting == 1u; }));
}

TEST_F(IngestTest, AnEngineWithoutEventsSaysWhy) {
  TestEngine old(loop), off(loop), odd(loop);
  off.pages["/kv_event_sources"] = {200, R"({"0":{"enable_kv_cache_events":false,"publisher":"null"}})"};
  odd.pages["/kv_event_sources"] = {200, "<html>"};
  start({old.address(), off.address(), odd.address()});
  ASSERT_TRUE(until([&] { return sink.up(0) && sink.up(1) && sink.up(2); }));
  for (const auto& [id, found] : sink.found) EXPECT_FALSE(found.info.has_events);
  EXPECT_THAT(status(0).events, HasSubstr("kv=tcp://"));
  EXPECT_THAT(status(1).events, HasSubstr("--kv-events-config"));
  EXPECT_THAT(status(2).events, HasSubstr("/kv_event_sources is not the JSON expected"));
  ASSERT_EQ(sink.warnings.size(), 3u);
  for (const std::string& warning : sink.warnings) {
    EXPECT_THAT(warning, HasSubstr("no_kv_events http://127.0.0.1:"));
    EXPECT_THAT(warning, HasSubstr("its matches are guesses"));
  }
  // Not said again with every check.
  const int before = sink.samples_calls;
  ASSERT_TRUE(until([&] { return sink.samples_calls > before + 20; }));
  EXPECT_EQ(sink.warnings.size(), 3u);
}

TEST_F(IngestTest, APoolThatNeedsNoEventsAsksForNone) {
  TestEngine engine(loop);
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  tell_sources(engine, {{0, &publisher}});
  options.follow_events = false;
  auto address = engine.address();
  start({address});
  ASSERT_TRUE(until([&] { return sink.up(0); }));
  EXPECT_EQ(engine.asked["/kv_event_sources"], 0);
  EXPECT_FALSE(sink.found.at(EngineId(0)).info.has_events);
  EXPECT_THAT(status().events, HasSubstr("not followed"));
  EXPECT_THAT(sink.warnings, IsEmpty());
}

TEST_F(IngestTest, DownAtTheStartThenUp) {
  TestEngine engine(loop);
  engine.close();
  start({engine.address()});
  ASSERT_TRUE(until([&] { return status().liveness == fleet::Liveness::kDown; }));
  EXPECT_THAT(status().why_not, HasSubstr("refused"));
  EXPECT_EQ(status().engine, std::nullopt);
  EXPECT_THAT(sink.found, IsEmpty());
  ASSERT_TRUE(reopened(engine));
  ASSERT_TRUE(until([&] { return sink.up(0); }));
  EXPECT_EQ(status().why_not, "");
}

TEST_F(IngestTest, GoesAndComesBackWithOtherModelsAndEvents) {
  TestEngine engine(loop);
  auto publisher = std::make_unique<TestPublisher>(loop, TestPublisher::Replay::kAnswer);
  tell_sources(engine, {{0, publisher.get()}});
  start({engine.address()});
  ASSERT_TRUE(until([&] { return sink.exact(0); }));
  publisher->publish({stored(1, 0, 2)});
  ASSERT_TRUE(until([&] { return depth(0, 1) == 2; }));
  const Instant died = loop.now();
  engine.close();
  publisher->die();
  ASSERT_TRUE(until([&] { return sink.down(0) && sink.is(0, PublisherState::kLost); }));
  EXPECT_LT(loop.now() - died, std::chrono::seconds(1));
  EXPECT_EQ(depth(0, 1), 0u);
  EXPECT_THAT(status().events, HasSubstr("(not connected)"));
  engine.pages["/v1/models"].body = TestEngine::models({"other", "qwen"});
  TestPublisher second(loop, TestPublisher::Replay::kAnswer);
  tell_sources(engine, {{0, &second}});
  ASSERT_TRUE(reopened(engine));
  ASSERT_TRUE(until([&] { return sink.up(0) && sink.exact(0); }));
  EXPECT_THAT(sink.found.at(EngineId(0)).info.models, ElementsAre("other", "qwen"));
  EXPECT_EQ(sink.found.size(), 1u);
  EXPECT_THAT(sink.gone, IsEmpty());
  EXPECT_EQ(status().blocks_held, 0u);  // what the old publisher told is gone
  second.publish({stored(2, 0, 3)});
  ASSERT_TRUE(until([&] { return depth(0, 2) == 3; }));
  EXPECT_EQ(depth(0, 1), 0u);
  EXPECT_EQ(registry.counter("warmpath_kv_batches_total", "", {{"pool", "p"}, {"engine", status().name}}).value(), 2u);
}

TEST_F(IngestTest, ComesBackWithoutEvents) {
  TestEngine engine(loop);
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  tell_sources(engine, {{0, &publisher}});
  start({engine.address()});
  ASSERT_TRUE(until([&] { return sink.exact(0); }));
  publisher.publish({stored(1, 0, 2)});
  ASSERT_TRUE(until([&] { return depth(0, 1) == 2; }));
  engine.close();
  ASSERT_TRUE(until([&] { return sink.down(0); }));
  engine.pages["/kv_event_sources"] = {200, "{}"};
  ASSERT_TRUE(reopened(engine));
  ASSERT_TRUE(until([&] { return sink.up(0); }));
  EXPECT_FALSE(sink.found.at(EngineId(0)).info.has_events);
  EXPECT_TRUE(sink.is(0, PublisherState::kLost));
  EXPECT_EQ(depth(0, 1), 0u);
  EXPECT_EQ(index.stat().engines.size(), 0u);
  EXPECT_EQ(sink.warnings.size(), 1u);
}

// Nobody saw it down: its page tells that it is another process.
TEST_F(IngestTest, AProcessThatChangedBetweenTwoChecksIsAskedAgain) {
  options.health_interval = std::chrono::hours(1);
  TestEngine engine(loop);
  start({engine.address()});
  ASSERT_TRUE(until([&] { return sink.up(0); }));
  EXPECT_EQ(engine.asked["/v1/models"], 1);
  engine.pages["/v1/models"].body = TestEngine::models({"qwen", "adapter"});
  engine.pages["/metrics"].body = TestEngine::page(1, 1, 32, 1e9 + 60);
  ASSERT_TRUE(until([&] { return sink.found.at(EngineId(0)).info.models.size() == 2; }));
  EXPECT_EQ(sink.found.at(EngineId(0)).info.block_tokens, 32u);
  const int samples = sink.samples_calls;
  ASSERT_TRUE(until([&] { return sink.samples_calls > samples + 5; }));
  EXPECT_EQ(engine.asked["/v1/models"], 2);
}

TEST_F(IngestTest, AdaptersThatAreLoadedWhileItRunsAreSeen) {
  TestEngine engine(loop);
  start({engine.address()});
  ASSERT_TRUE(until([&] { return sink.up(0); }));
  engine.pages["/v1/models"].body = TestEngine::models({"qwen", "adapter"});
  ASSERT_TRUE(until([&] { return sink.found.at(EngineId(0)).info.models.size() == 2; }));
  EXPECT_TRUE(sink.up(0));
}

TEST_F(IngestTest, AnEngineOfAnotherModelIsNotUsed) {
  options.model = "qwen";
  TestEngine wrong(loop), by_root(loop);
  wrong.pages["/v1/models"].body = TestEngine::models({"llama"});
  by_root.pages["/v1/models"].body = R"({"data":[{"id":"alias","root":"qwen"}]})";
  start({wrong.address(), by_root.address()});
  ASSERT_TRUE(until([&] { return sink.up(0) && status(0).liveness == fleet::Liveness::kDown; }));
  EXPECT_THAT(status(0).why_not, HasSubstr("it serves llama, not qwen"));
  EXPECT_EQ(sink.found.size(), 1u);
  wrong.pages["/v1/models"].body = TestEngine::models({"qwen"});
  ASSERT_TRUE(until([&] { return sink.up(1); }));
  // And while it runs.
  wrong.pages["/v1/models"].body = TestEngine::models({"llama"});
  ASSERT_TRUE(until([&] { return sink.down(1); }));
}

TEST_F(IngestTest, AnEngineThatAsksForAKeyIsUsed) {
  options.model = "qwen";
  TestEngine engine(loop);
  engine.pages["/v1/models"] = {401, R"({"error":"Unauthorized"})"};
  auto address = engine.address();
  address.adapters = {"lora-a"};
  start({address});
  ASSERT_TRUE(until([&] { return sink.up(0); }));
  EXPECT_THAT(sink.found.at(EngineId(0)).info.models, ElementsAre("qwen", "lora-a"));
  EXPECT_EQ(sink.found.at(EngineId(0)).models.at(1).parent, "qwen");
  EXPECT_THAT(sink.warnings, Contains(HasSubstr("models_hidden")));
}

TEST_F(IngestTest, AnswersThatAreNone) {
  TestEngine engine(loop);
  engine.pages["/v1/models"] = {500, ""};
  start({engine.address()});
  ASSERT_TRUE(until([&] { return status().why_not.find("answers 500") != std::string::npos; }));
  engine.pages["/v1/models"] = {200, "nonsense"};
  ASSERT_TRUE(until([&] { return status().why_not.find("/v1/models is not the JSON expected") != std::string::npos; }));
  engine.pages["/v1/models"] = {200, TestEngine::models({"qwen"})};
  ASSERT_TRUE(until([&] { return sink.up(0); }));
  engine.pages["/health"].status = 503;
  ASSERT_TRUE(until([&] { return sink.down(0); }));
  EXPECT_THAT(status().why_not, HasSubstr("GET /health answers 503"));
  // Asking again works, and the first check finds it ill again.
  engine.pages["/health"].status = 200;
  ASSERT_TRUE(until([&] { return sink.up(0); }));
}

TEST_F(IngestTest, AHangingEngineIsDown) {
  options.ask_timeout = milliseconds(50);
  TestEngine engine(loop);
  start({engine.address()});
  ASSERT_TRUE(until([&] { return sink.up(0); }));
  engine.hang = true;
  ASSERT_TRUE(until([&] { return sink.down(0); }));
  EXPECT_THAT(status().why_not, HasSubstr("in time"));
  engine.hang = false;
  ASSERT_TRUE(until([&] { return sink.up(0); }));
}

// Reliability: a page that lies or is too large costs its figures, never the engine.
TEST_F(IngestTest, HostilePagesCostTheirFiguresAlone) {
  options.page_bytes_max = 64u << 10;
  TestEngine engine(loop);
  engine.pages["/metrics"].body = std::string(10u << 20, 'x');
  start({engine.address()});
  ASSERT_TRUE(until([&] { return sink.up(0); }));
  EXPECT_EQ(sink.found.at(EngineId(0)).info.block_tokens, 0u);
  EXPECT_THAT(sink.samples, IsEmpty());
  engine.pages["/metrics"].body = "vllm:num_requests_running{engine=\"0\"} NaN\nvllm:num_requests_waiting 4294967300\n";
  ASSERT_TRUE(until([&] { return sink.samples_calls > 0; }));
  EXPECT_EQ(sink.samples[EngineId(0)].running, std::nullopt);
  EXPECT_EQ(sink.samples[EngineId(0)].waiting, 1'000'000'000u);
  // Facts that come late are told.
  engine.pages["/metrics"].body = TestEngine::page(1, 0);
  ASSERT_TRUE(until([&] { return sink.found.at(EngineId(0)).info.block_tokens == 16; }));
  EXPECT_TRUE(sink.up(0));
}

TEST_F(IngestTest, RanksAreEnginesAndTheirNumberMayChange) {
  TestEngine engine(loop);
  TestPublisher zero(loop, TestPublisher::Replay::kAnswer), one(loop, TestPublisher::Replay::kAnswer),
      two(loop, TestPublisher::Replay::kAnswer);
  tell_sources(engine, {{0, &zero}, {1, &one}});
  engine.pages["/metrics"].body =
      "vllm:num_requests_running{engine=\"0\"} 1\nvllm:num_requests_running{engine=\"1\"} 7\n"
      "vllm:cache_config_info{block_size=\"16\",engine=\"0\",kv_cache_size_tokens=\"100\"} 1\n"
      "vllm:cache_config_info{block_size=\"16\",engine=\"1\",kv_cache_size_tokens=\"200\"} 1\n";
  start({engine.address()});
  ASSERT_TRUE(until([&] { return sink.exact(0) && sink.exact(1); }));
  EXPECT_TRUE(sink.found.at(EngineId(0)).info.name.ends_with("#0"));
  EXPECT_EQ(sink.found.at(EngineId(1)).info.rank, 1u);
  EXPECT_EQ(sink.found.at(EngineId(1)).info.kv_tokens, 200u);
  EXPECT_EQ(sink.samples[EngineId(0)].running, 1u);
  EXPECT_EQ(sink.samples[EngineId(1)].running, 7u);
  one.publish({stored(1, 0, 2)});
  ASSERT_TRUE(until([&] { return depth(1, 1) == 2; }));
  EXPECT_EQ(depth(0, 1), 0u);
  // One rank's gap never touches another.
  one.lose({stored(3, 0, 1)});
  one.publish({stored(4, 0, 1)});
  ASSERT_TRUE(until([&] { return depth(1, 3) == 1; }));
  EXPECT_EQ(zero.replays_asked, 1u);

  engine.close();
  ASSERT_TRUE(until([&] { return sink.down(0) && sink.down(1); }));
  tell_sources(engine, {{0, &zero}, {1, &one}, {2, &two}});
  ASSERT_TRUE(reopened(engine));
  ASSERT_TRUE(until([&] { return sink.exact(2) && sink.exact(3) && sink.exact(4); }));
  EXPECT_THAT(sink.gone, ElementsAre(EngineId(0), EngineId(1)));
  EXPECT_EQ(depth(1, 1), 0u);
  EXPECT_EQ(depth(3, 1), 2u);  // replayed for the new engine
  EXPECT_EQ(ingest->status().size(), 3u);

  engine.close();
  ASSERT_TRUE(until([&] { return sink.down(2); }));
  tell_sources(engine, {{0, &zero}});
  ASSERT_TRUE(reopened(engine));
  ASSERT_TRUE(until([&] { return sink.exact(5); }));
  EXPECT_EQ(sink.found.size(), 1u);
  EXPECT_EQ(sink.found.at(EngineId(5)).info.rank, std::nullopt);
  EXPECT_THAT(registry.expose(), ::testing::Not(HasSubstr("#1\"")));
}

// A server with ranks 4 and 5 of a deployment over several machines.
TEST_F(IngestTest, RanksNeedNotBeginAtZero) {
  TestEngine engine(loop);
  TestPublisher four(loop, TestPublisher::Replay::kAnswer), five(loop, TestPublisher::Replay::kAnswer);
  tell_sources(engine, {{4, &four}, {5, &five}});
  start({engine.address()});
  ASSERT_TRUE(until([&] { return sink.exact(0) && sink.exact(1); }));
  EXPECT_EQ(sink.found.size(), 2u);
  EXPECT_EQ(sink.found.at(EngineId(0)).info.rank, 4u);
  EXPECT_EQ(sink.found.at(EngineId(1)).info.rank, 5u);
}

TEST_F(IngestTest, SourcesAsTheUserGaveThem) {
  TestEngine engine(loop);
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  publisher.lose({stored(1, 0, 2)});
  EngineAddress address = engine.address();
  address.events = EventSource{EventSource::Side::kConnect, publisher.live_endpoint(), publisher.replay_endpoint()};
  start({address});
  ASSERT_TRUE(until([&] { return sink.exact(0); }));
  EXPECT_EQ(depth(0, 1), 2u);
  EXPECT_EQ(engine.asked["/kv_event_sources"], 0);
}

TEST_F(IngestTest, BindsWhereTheEngineDialsOutAndWaitsForThePort) {
  TestEngine engine(loop);
  io::ZmqOptions other;
  other.kind = io::ZmqKind::kSub;
  other.attach = io::ZmqOptions::Attach::kBind;
  other.endpoint = "tcp://127.0.0.1:*";
  auto taken = io::ZmqSocket::open(loop, other, {}).value();
  const std::string endpoint = taken->bound_endpoint();
  EngineAddress address = engine.address();
  address.events = EventSource{EventSource::Side::kBind, endpoint, ""};
  start({address});
  ASSERT_TRUE(until([&] { return sink.up(0); }));
  EXPECT_FALSE(sink.found.at(EngineId(0)).info.has_events);
  EXPECT_THAT(sink.warnings, ElementsAre(HasSubstr("choose another port")));
  taken.reset();
  ASSERT_TRUE(until([&] { return sink.found.at(EngineId(0)).info.has_events; }));
  TestPublisher publisher(loop, TestPublisher::Replay::kNone, endpoint);
  ASSERT_TRUE(until([&] {
    publisher.publish({stored(1, 0, 2)});
    return depth(0, 1) == 2;
  }));
  EXPECT_EQ(sink.warnings.size(), 1u);
}

TEST_F(IngestTest, ASourceThatIsNoneSaysSo) {
  TestEngine engine(loop);
  EngineAddress address = engine.address();
  address.events = EventSource{EventSource::Side::kConnect, "ipc:///tmp/x", ""};
  start({address});
  ASSERT_TRUE(until([&] { return sink.up(0); }));
  EXPECT_THAT(status().events, HasSubstr("'ipc:///tmp/x' is not tcp://host:port"));
}

TEST_F(IngestTest, ANameThatCannotBeResolvedIsLookedUpAgain) {
  TestEngine engine(loop);
  start({engine.at("http://no-such-host.invalid:8000"), engine.address()});
  ASSERT_TRUE(until([&] { return sink.up(0) && status(0).why_not.find("no-such-host.invalid") != std::string::npos; }));
  EXPECT_EQ(status(0).engine, std::nullopt);
}

// localhost has addresses of both families on most machines: one engine.
TEST_F(IngestTest, ADualStackNameIsOneEngine) {
  TestEngine engine(loop);
  start({engine.at("http://localhost:" + std::to_string(engine.port()))});
  ASSERT_TRUE(until([&] { return sink.up(0); }));
  EXPECT_EQ(sink.found.at(EngineId(0)).info.name, "http://localhost:" + std::to_string(engine.port()));
  EXPECT_EQ(ingest->status().size(), 1u);
}

TEST_F(IngestTest, EveryAddressOfANameIsAnEngineAndTheNameIsAskedAgain) {
  TestEngine first(loop);
  TestEngine second(loop, "127.0.0.2", first.port());
  TestEngine third(loop, "127.0.0.3", first.port());
  std::vector<std::string> answer = {"127.0.0.1", "127.0.0.2"};
  int lookups = 0;
  struct Answered final : io::Pending {
    io::Timer timer;
  };
  options.resolver = [&](io::Loop& on, const std::string& host, std::uint16_t port, Duration,
                         std::function<void(Result<std::vector<io::Address>>)> done) -> std::unique_ptr<io::Pending> {
    EXPECT_EQ(host, "engines.test");
    ++lookups;
    std::vector<io::Address> found;
    for (const std::string& ip : answer) found.push_back({ip, port});
    auto pending = std::make_unique<Answered>();
    pending->timer = on.after(Duration{0}, [done = std::move(done), found] { done(found); });
    return pending;
  };
  start({first.at("http://engines.test:" + std::to_string(first.port()))});
  ASSERT_TRUE(until([&] { return sink.up(0) && sink.up(1); }));
  EXPECT_EQ(sink.found.at(EngineId(0)).info.name,
            "http://engines.test:" + std::to_string(first.port()) + "@127.0.0.1:" + std::to_string(first.port()));
  EXPECT_EQ(sink.found.at(EngineId(1)).origin.address.ip, "127.0.0.2");

  // An empty answer is a resolver's hiccup while the engines answer.
  answer.clear();
  int before = lookups;
  ASSERT_TRUE(until([&] { return lookups >= before + 2; }));
  EXPECT_THAT(sink.gone, IsEmpty());

  // One leaves and one comes, in another order: the one that stays keeps its id, its connections and its map.
  answer = {"127.0.0.3", "127.0.0.2"};
  ASSERT_TRUE(until([&] { return sink.gone.size() == 1 && sink.up(2); }));
  EXPECT_EQ(sink.gone[0], EngineId(0));
  EXPECT_TRUE(sink.up(1));
  EXPECT_EQ(sink.found.at(EngineId(1)).origin.address.ip, "127.0.0.2");
  EXPECT_EQ(sink.found.at(EngineId(2)).origin.address.ip, "127.0.0.3");
}

TEST_F(IngestTest, PromptsWithoutEventsAreAWarningAndAMetric) {
  options.silence_max = milliseconds(60);
  TestEngine engine(loop);
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  tell_sources(engine, {{0, &publisher}});
  start({engine.address()});
  ASSERT_TRUE(until([&] { return sink.exact(0); }));
  observe::Gauge& silent = registry.gauge("warmpath_engines_silent", "", {{"pool", "p"}});
  ingest->routed(EngineId(0), 1'000);  // too little to be sure
  int before = sink.samples_calls;
  ASSERT_TRUE(until([&] { return sink.samples_calls > before + 8; }));
  EXPECT_EQ(silent.value(), 0);
  std::thread([&] { ingest->routed(EngineId(0), 24); }).join();
  ASSERT_TRUE(until([&] { return silent.value() == 1; }));
  ASSERT_EQ(sink.warnings.size(), 1u);
  EXPECT_THAT(sink.warnings[0], HasSubstr("engine_silent http://127.0.0.1:"));
  EXPECT_THAT(sink.warnings[0], HasSubstr("1024 prompt tokens"));
  EXPECT_THAT(sink.warnings[0], HasSubstr(publisher.live_endpoint()));
  before = sink.samples_calls;
  ASSERT_TRUE(until([&] { return sink.samples_calls > before + 8; }));
  EXPECT_EQ(sink.warnings.size(), 1u);  // once an episode
  publisher.publish({stored(1, 0, 1)});
  ASSERT_TRUE(until([&] { return silent.value() == 0; }));
  ingest->routed(EngineId(0), 100'000);
  before = sink.samples_calls;
  ASSERT_TRUE(until([&] { return sink.samples_calls > before + 8; }));
  EXPECT_EQ(silent.value(), 0);
  EXPECT_EQ(sink.warnings.size(), 1u);
}

TEST_F(IngestTest, DestroyedAtAnyMoment) {
  TestEngine engine(loop);
  TestPublisher zero(loop, TestPublisher::Replay::kAnswer), one(loop, TestPublisher::Replay::kAnswer);
  for (std::uint64_t i = 0; i < 20; ++i) zero.lose({stored(i + 1, 0, 2)});
  tell_sources(engine, {{0, &zero}, {1, &one}});
  options.scrape_interval = options.health_interval = milliseconds(1);
  for (int turns = 0; turns < 80; ++turns) {
    start({engine.address(), engine.at("http://localhost:1")});
    int turn = 0;
    io::Timer keep_turning;
    std::function<void()> again = [&] { keep_turning = loop.after(Duration{0}, again); };
    again();
    ASSERT_TRUE(until([&] { return ++turn > turns * 4; }));
    ingest.reset();
    EXPECT_THAT(sink.found, IsEmpty()) << turns;
    EXPECT_EQ(index.stat().engines.size(), 0u) << turns;
  }
  io::Settle(loop);
}

TEST_F(IngestTest, TheSurveyAsksBlockSizes) {
  TestEngine vllm(loop), sglang(loop), quiet(loop), late(loop);
  vllm.pages["/metrics"].body = TestEngine::page(0, 0, 32);
  sglang.pages.erase("/metrics");
  sglang.pages["/server_info"] = {200,
                                  R"({"kv_events":{"publisher":"zmq","endpoint_port_base":5557,"block_size":64}})"};
  quiet.pages.erase("/metrics");
  late.close();
  std::optional<Survey> told;
  auto asking = survey(loop, {vllm.address(), sglang.address(), quiet.address(), late.address()},
                       std::chrono::seconds(20), [&](Survey got) { told = std::move(got); });
  ASSERT_TRUE(until([&] { return vllm.asked["/metrics"] > 0; }));
  EXPECT_FALSE(told);
  ASSERT_TRUE(reopened(late));
  ASSERT_TRUE(until([&] { return told.has_value(); }));
  EXPECT_THAT(told->block_tokens, ::testing::UnorderedElementsAre(32, 64, 16));
  EXPECT_THAT(told->unanswered, IsEmpty());

  late.close();
  told.reset();
  const Instant begun = loop.now();
  asking = survey(loop, {vllm.address(), late.address()}, milliseconds(50), [&](Survey got) {
    told = std::move(got);
    asking.reset();
  });
  ASSERT_TRUE(until([&] { return told.has_value(); }));
  EXPECT_GE(loop.now() - begun, milliseconds(50));
  EXPECT_THAT(told->block_tokens, ElementsAre(32));
  EXPECT_THAT(told->unanswered, ElementsAre(HasSubstr(":" + std::to_string(late.port()))));

  told.reset();
  asking = survey(loop, {}, std::chrono::hours(1), [&](Survey got) { told = std::move(got); });
  ASSERT_TRUE(until([&] { return told.has_value(); }));
  asking = survey(loop, {vllm.address()}, std::chrono::hours(1), [&](Survey) { ADD_FAILURE() << "it was cancelled"; });
  asking.reset();
  io::Settle(loop);
}

}  // namespace
}  // namespace warmpath::ingest
