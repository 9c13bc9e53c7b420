#include "io/files.h"

#include <gtest/gtest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace warmpath::io {
namespace {

class Files : public ::testing::Test {
 protected:
  Files() {
    std::string name = (std::filesystem::temp_directory_path() / "warmpath-files-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  ~Files() override { std::filesystem::remove_all(folder_); }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::filesystem::path folder_;
};

TEST_F(Files, ReadsWholeUnderALimit) {
  const std::string content = std::string("a\0b\n", 4) + std::string(200'000, 'x');
  std::ofstream(path("f"), std::ios::binary) << content;
  EXPECT_EQ(read_file(path("f"), content.size()).value(), content);
  const auto large = read_file(path("f"), content.size() - 1);
  ASSERT_FALSE(large.ok());
  EXPECT_EQ(large.error().kind, ErrorKind::kTooLarge);
  EXPECT_NE(large.error().message.find(path("f")), std::string::npos);
}

TEST_F(Files, LimitHoldsForFilesWithoutASize) {
  const auto endless = read_file("/dev/zero", 100'000);
  ASSERT_FALSE(endless.ok());
  EXPECT_EQ(endless.error().kind, ErrorKind::kTooLarge);
}

TEST_F(Files, NamesWhatIsWrong) {
  EXPECT_EQ(read_file(path("none"), 10).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(read_file(folder_.string(), 10).error().kind, ErrorKind::kInvalid);
  std::ofstream(path("f")) << "x";
  EXPECT_EQ(read_file(path("f") + "/g", 10).error().kind, ErrorKind::kNotFound);
  EXPECT_TRUE(file_exists(path("f")));
  EXPECT_FALSE(file_exists(path("none")));
}

TEST_F(Files, ReplacesWholeAndLeavesNothingBeside) {
  ASSERT_TRUE(replace_file(path("f"), "old").ok());
  const int reader = ::open(path("f").c_str(), O_RDONLY);
  ASSERT_TRUE(replace_file(path("f"), std::string(100'000, 'n')).ok());
  char old[8] = "";
  EXPECT_EQ(::read(reader, old, sizeof old), 3);  // who had it open reads the old one
  ::close(reader);
  EXPECT_EQ(read_file(path("f"), 1 << 20).value(), std::string(100'000, 'n'));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
  EXPECT_FALSE(replace_file(path("no/such/folder"), "x").ok());
}

TEST_F(Files, KeepsTheOldFileWhenItCannotBeReplaced) {
  std::filesystem::create_directory(path("d"));
  std::ofstream(path("d/inside")) << "x";
  EXPECT_FALSE(replace_file(path("d"), "content").ok());  // a folder that is not empty cannot be renamed over
  EXPECT_TRUE(file_exists(path("d/inside")));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

}  // namespace
}  // namespace warmpath::io
