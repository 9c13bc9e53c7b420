#include "admin/admin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/api.h"

namespace warmpath::admin {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

PoolReport pool(std::string name, fleet::Liveness liveness) {
  PoolReport report;
  report.name = std::move(name);
  report.model = "m";
  report.mode = "precise";
  report.started = true;
  EngineReport engine;
  engine.name = "http://a:1";
  engine.engine = EngineId(0);
  engine.liveness = liveness;
  engine.why_not = liveness == fleet::Liveness::kUp ? "" : "connection refused";
  report.engines.push_back(engine);
  report.snapshot.policy = "precise";
  fleet::EngineView view;
  view.id = EngineId(0);
  view.liveness = liveness;
  view.waiting = 3;
  report.snapshot.engines.push_back(view);
  fleet::EngineInfo info;
  info.id = EngineId(0);
  info.name = "http://a:1";
  info.url = "http://a:1";
  report.snapshot.infos.push_back(info);
  return report;
}

route::DecisionRecord decision(std::uint64_t id, int at_ms) {
  auto receipt = std::make_shared<schedule::Receipt>();
  receipt->policy = "precise";
  receipt->prompt_tokens = 100;
  receipt->chosen = EngineId(0);
  schedule::CandidateReceipt candidate;
  candidate.engine = EngineId(0);
  candidate.total = 1.5;
  candidate.lines = {{"prefix", 3, 0.5}};
  candidate.matched_tokens = 64;
  receipt->candidates.push_back(candidate);
  route::DecisionRecord record;
  record.id = RequestId(id);
  record.at = Instant(std::chrono::milliseconds(at_ms));
  record.receipt = receipt;
  record.predicted_cached_tokens = 64;
  return record;
}

TEST(Ready, NeedsAnEngineInEveryPool) {
  EXPECT_FALSE(is_ready({}));
  EXPECT_TRUE(is_ready({pool("a", fleet::Liveness::kUp)}));
  EXPECT_FALSE(is_ready({pool("a", fleet::Liveness::kUp), pool("b", fleet::Liveness::kDown)}));
  PoolReport starting = pool("a", fleet::Liveness::kUp);
  starting.started = false;
  EXPECT_FALSE(is_ready({starting}));
}

TEST(Ready, SaysWhatIsMissingAndWhy) {
  EXPECT_EQ(ready_body({pool("a", fleet::Liveness::kDown)}),
            R"({"ready":false,"pools":[{"pool":"a","model":"m","mode":"precise","started":true,"engines_known":1,)"
            R"("engines_up":0,"missing":[{"engine":"http://a:1","liveness":"down","why":"connection refused"}]}]})");
  EXPECT_THAT(ready_body({pool("a", fleet::Liveness::kUp)}), HasSubstr(R"("missing":[])"));
}

TEST(Engines, ShowFactsLoadAndProof) {
  PoolReport report = pool("a", fleet::Liveness::kUp);
  route::EngineProof proof;
  proof.engine = EngineId(0);
  proof.requests = 7;
  proof.predicted_cached_tokens = 64;
  report.snapshot.proofs.push_back(proof);
  const std::string body = engines_body({report});
  EXPECT_THAT(body, HasSubstr(R"("waiting":3)"));
  EXPECT_THAT(body, HasSubstr(R"("rank":null)"));
  EXPECT_THAT(body, HasSubstr(R"("proof":{"requests":7,)"));
  EXPECT_THAT(body, HasSubstr(R"("publisher":"lost")"));
  report.engines[0].engine.reset();
  EXPECT_THAT(engines_body({report}), Not(HasSubstr("proof")));
}

TEST(Decisions, NewestFirstOverAllPools) {
  PoolReport a = pool("a", fleet::Liveness::kUp);
  a.snapshot.decisions = {decision(5, 50), decision(1, 10)};
  PoolReport b = pool("b", fleet::Liveness::kUp);
  b.snapshot.decisions = {decision(3, 30)};
  const std::string body = decisions_body({a, b}, 2, Instant(std::chrono::milliseconds(100)));
  const auto five = body.find(R"("request":5,"age_ms":50)");
  const auto three = body.find(R"("request":3,"age_ms":70)");
  ASSERT_NE(five, std::string::npos);
  ASSERT_NE(three, std::string::npos);
  EXPECT_LT(five, three);
  EXPECT_THAT(body, Not(HasSubstr(R"("request":1,)")));
  EXPECT_THAT(body, HasSubstr(R"("scores":[{"scorer":"prefix","weight":3,"score":0.5}])"));
  EXPECT_THAT(body, HasSubstr(R"("reported_cached_tokens":null)"));
}

TEST(Index, ShowsEachPublisher) {
  IndexPool pool{.name = "a", .model = "m", .block_tokens = 16, .keys = 5, .bytes = 900, .bytes_max = 1'000};
  pool.engines.push_back({.name = "http://a:1",
                          .events = "tcp://a:5557",
                          .has_events = true,
                          .publisher = blocks::PublisherState::kPartial,
                          .blocks_held = 6,
                          .router_blocks_held = 5,
                          .block_tokens = 16,
                          .stores_parked = 1,
                          .lag_batches = 2,
                          .batches = 30,
                          .gaps = 3,
                          .replays = 4,
                          .replays_failed = 1,
                          .restarts = 2});
  EXPECT_EQ(
      index_body({pool}),
      R"({"pools":[{"pool":"a","model":"m","why_none":"","block_tokens":16,"keys":5,"bytes":900,"bytes_max":1000,"blocks_restored":0,)"
      R"("engines":[{"engine":"http://a:1","events":"tcp://a:5557","has_events":true,"publisher":"partial",)"
      R"("blocks_held":6,"router_blocks_held":5,"block_tokens":16,"stores_parked":1,"lag_batches":2,"batches":30,)"
      R"("gaps":3,"replays":4,"replays_failed":1,"restarts":2}]}]})");
}

TEST(Index, DumpsPageByPage) {
  IndexDump dump{.pool = "a", .engine = "e", .publisher = blocks::PublisherState::kExact};
  for (std::uint64_t i = 0; i < 5; ++i) {
    dump.blocks.push_back({.group = static_cast<std::uint32_t>(i / 3), .hash = EngineHash(i << 60 | i), .tiers = 5});
  }
  const auto first = dump_body(dump, "", 2);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(*first, R"({"pool":"a","engine":"e","publisher":"exact","blocks_held":5,"blocks":[)"
                    R"({"group":0,"hash":"0000000000000000","tiers":["gpu","storage"]},)"
                    R"({"group":0,"hash":"1000000000000001","tiers":["gpu","storage"]}],"next":"0:1000000000000001"})");
  const auto rest = dump_body(dump, "0:1000000000000001", 10);
  ASSERT_TRUE(rest.ok());
  EXPECT_THAT(*rest, HasSubstr(R"("next":null)"));
  EXPECT_THAT(*rest, HasSubstr(R"({"group":1,"hash":"4000000000000004",)"));
  EXPECT_THAT(*rest, Not(HasSubstr("1000000000000001")));
  EXPECT_THAT(*dump_body(dump, "9:0000000000000000", 10), HasSubstr(R"("blocks":[],"next":null)"));
  for (const char* bad :
       {"x", "1", "1:", "1:zz", "1:00", ":0000000000000000", "4294967296:0000000000000000", "1:00000000000000000"}) {
    EXPECT_FALSE(dump_body(dump, bad, 10).ok()) << bad;
  }
}

TEST(Index, TellsWhoHoldsAPrompt) {
  IndexWho who{
      .pool = "a", .model = "m", .prompt_tokens = 100, .chain_blocks = 6, .block_tokens = 16, .chain = "exact"};
  who.holders.push_back({.engine = "e", .publisher = blocks::PublisherState::kExact, .tokens = {32, 64, 64}});
  EXPECT_EQ(who_body(who),
            R"({"pool":"a","model":"m","prompt_tokens":100,"chain_blocks":6,"block_tokens":16,"chain":"exact",)"
            R"("engines":[{"engine":"e","publisher":"exact","tokens":{"gpu":32,"cpu":64,"storage":64}}]})");
}

// ---- over the wire; loop and listener on this thread ----

struct Answer {
  int status = 0;
  std::string body;
  std::string type;
};

class Wire : public ::testing::Test {
 protected:
  void SetUp() override {
    auto opened =
        Admin::open(loop_, {"127.0.0.1", 0},
                    {.registry = &registry_,
                     .refresh = [this] { registry_.gauge("warmpath_x", "x").set(++refreshed_); },
                     .pools =
                         [this](std::size_t decisions_max) {
                           asked_for_ = decisions_max;
                           return pools_;
                         },
                     .index = {.stat = [] { return std::vector<IndexPool>{{.name = "a", .keys = 7}}; },
                               .dump = [this](std::string_view, std::string_view engine) -> Result<IndexDump> {
                                 if (engine != "http://a:1#0") return Error{ErrorKind::kNotFound, "no such engine"};
                                 return dump_;
                               },
                               .who = [](std::string_view pool, const api::Request& request) -> Result<IndexWho> {
                                 if (pool == "zzz") return Error{ErrorKind::kNotFound, "no such pool"};
                                 return IndexWho{.pool = request.model, .chain = "exact"};
                               },
                               .snapshot = [this]() -> std::shared_ptr<SnapshotStream> {
                                 return busy_ ? nullptr : std::make_shared<Pieces>(*this);
                               }}});
    ASSERT_TRUE(opened.ok());
    admin_ = std::move(opened).value();
    client_ = http::HttpClient::create(loop_, {});
  }

  Answer ask(std::string target, std::string method = "GET", std::string body = "") {
    Answer answer;
    http::ClientRequest request;
    if (!body.empty()) request.body = std::make_shared<const std::string>(std::move(body));
    request.method = std::move(method);
    request.target = std::move(target);
    const auto call = client_->fetch({admin_->address(), "admin", nullptr}, std::move(request),
                                     std::chrono::seconds(20), [&](Result<http::HttpClient::Whole> whole) {
                                       EXPECT_TRUE(whole.ok());
                                       if (whole.ok()) {
                                         answer.status = whole->head.status;
                                         answer.body = whole->body;
                                         const auto* type = whole->head.headers.find("content-type");
                                         if (type != nullptr) answer.type = *type;
                                       }
                                       loop_.stop();
                                     });
    loop_.run();
    return answer;
  }

  struct Pieces final : SnapshotStream {
    explicit Pieces(Wire& wire) : wire_(wire) { ++wire.streams_; }
    ~Pieces() override { --wire_.streams_; }
    void next(std::function<void(std::optional<std::string>)> done) override {
      std::optional<std::string> piece;
      if (at_ < wire_.pieces_.size()) piece = wire_.pieces_[at_++];
      wire_.loop_.post([done, piece] { done(piece); });
    }
    Wire& wire_;
    std::size_t at_ = 0;
  };

  std::vector<std::string> pieces_;
  int streams_ = 0;
  bool busy_ = false;
  io::Loop loop_;
  observe::Registry registry_;
  std::vector<PoolReport> pools_ = {pool("a", fleet::Liveness::kDown)};
  std::unique_ptr<Admin> admin_;
  std::unique_ptr<http::HttpClient> client_;
  double refreshed_ = 0;
  std::size_t asked_for_ = 99;
  IndexDump dump_{.pool = "a", .engine = "http://a:1#0"};
};

TEST_F(Wire, MetricsAreRefreshedFirst) {
  const Answer answer = ask("/metrics");
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.body, HasSubstr("warmpath_x 1"));
  EXPECT_EQ(answer.type, observe::Registry::content_type());
}

TEST_F(Wire, HealthAndReadiness) {
  EXPECT_EQ(ask("/health").status, 200);
  EXPECT_EQ(ask("/ready").status, 503);
  pools_ = {pool("a", fleet::Liveness::kUp)};
  EXPECT_EQ(ask("/ready").status, 200);
}

TEST_F(Wire, DecisionsTakeALimitAndAPool) {
  EXPECT_EQ(ask("/decisions").status, 200);
  EXPECT_EQ(asked_for_, 20u);
  EXPECT_EQ(ask("/decisions?limit=5&pool=a").status, 200);
  EXPECT_EQ(asked_for_, 5u);
  for (const char* bad : {"0", "1001", "x", "-1", ""}) {
    EXPECT_EQ(ask("/decisions?limit=" + std::string(bad)).status, 400) << bad;
  }
  const Answer none = ask("/decisions?pool=zzz");
  EXPECT_EQ(none.status, 404);
  EXPECT_THAT(none.body, HasSubstr("there are a"));
}

TEST_F(Wire, QuestionsToTheIndex) {
  EXPECT_THAT(ask("/index").body, HasSubstr(R"("keys":7)"));
  EXPECT_EQ(ask("/index", "POST", "{}").status, 405);
  EXPECT_EQ(ask("/index/dump?engine=http%3A%2F%2Fa%3A1%230").status, 200);
  EXPECT_EQ(ask("/index/dump").status, 400);
  EXPECT_EQ(ask("/index/dump?engine=x").status, 404);
  for (const char* bad : {"&limit=0", "&limit=100001", "&limit=x", "&after=x"}) {
    EXPECT_EQ(ask("/index/dump?engine=http%3A%2F%2Fa%3A1%230" + std::string(bad)).status, 400) << bad;
  }
  const Answer who = ask("/index/who", "POST", R"({"model":"m","prompt":"x"})");
  EXPECT_EQ(who.status, 200);
  EXPECT_THAT(who.body, HasSubstr(R"("pool":"m")"));
  EXPECT_EQ(ask("/index/who?as=chat", "POST", R"({"messages":[{"role":"user","content":"x"}]})").status, 200);
  EXPECT_EQ(ask("/index/who?as=chat", "POST", R"({"prompt":"x"})").status, 400);
  EXPECT_EQ(ask("/index/who?as=tokens", "POST", R"({"prompt":"x"})").status, 400);
  EXPECT_EQ(ask("/index/who", "POST", "not json").status, 400);
  EXPECT_EQ(ask("/index/who").status, 405);
  EXPECT_EQ(ask("/index/who?pool=zzz", "POST", R"({"prompt":"x"})").status, 404);
  EXPECT_EQ(ask("/index/who", "POST", std::string(kWhoBytesMax + 1, 'x')).status, 413);
}

TEST_F(Wire, ASnapshotIsSentPieceByPiece) {
  pieces_ = {"WarmPath", std::string(3'000'000, 'x'), "end"};
  const Answer answer = ask("/index/snapshot");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.type, "application/octet-stream");
  EXPECT_EQ(answer.body.size(), 3'000'011u);
  EXPECT_TRUE(answer.body.starts_with("WarmPath") && answer.body.ends_with("end"));
  EXPECT_EQ(streams_, 0) << "over";
  EXPECT_EQ(ask("/index/snapshot", "POST", "{}").status, 405);
  busy_ = true;
  EXPECT_EQ(ask("/index/snapshot").status, 429);
}

TEST_F(Wire, OtherPathsAndMethods) {
  EXPECT_EQ(ask("/").status, 404);
  EXPECT_EQ(ask("/engines").status, 200);
  EXPECT_EQ(ask("/engines", "DELETE").status, 405);
}

}  // namespace
}  // namespace warmpath::admin
