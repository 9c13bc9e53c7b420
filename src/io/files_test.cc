#include "io/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
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

TEST_F(Files, ReplacesPieceByPieceForItsOwnerAlone) {
  std::ofstream(path("f.new")) << "left by a process that was killed";
  std::filesystem::permissions(path("f.new"), std::filesystem::perms(0644));
  std::string content;
  {
    auto file = FileReplacement::begin(path("f"));
    ASSERT_TRUE(file.ok());
    for (int i = 0; i < 3; ++i) {
      const std::string piece(700'000, static_cast<char>('a' + i));
      ASSERT_TRUE(file->append(piece).ok());
      content += piece;
    }
    EXPECT_FALSE(file_exists(path("f")));
    ASSERT_TRUE(file->commit().ok());
  }
  EXPECT_EQ(std::filesystem::status(path("f")).permissions(), std::filesystem::perms(0600));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
  std::string read;
  std::size_t pieces = 0;
  ASSERT_TRUE(read_file_in_pieces(path("f"), [&](std::string_view piece) {
                read += piece;
                ++pieces;
                return true;
              }).ok());
  EXPECT_EQ(read, content);
  EXPECT_GE(pieces, 3u);
  // Given up: the old one stays, nothing beside it.
  {
    auto file = FileReplacement::begin(path("f"));
    ASSERT_TRUE(file.ok() && file->append("half").ok());
  }
  EXPECT_EQ(read_file(path("f"), 1u << 22).value(), content);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
  EXPECT_FALSE(FileReplacement::begin(path("no/such/folder/f")).ok());
  std::filesystem::create_directory(path("d"));
  std::ofstream(path("d/inside")) << "x";
  auto over = FileReplacement::begin(path("d"));
  ASSERT_TRUE(over.ok());
  EXPECT_FALSE(over->commit().ok());
  EXPECT_EQ(read_file_in_pieces(path("none"), {}).error().kind, ErrorKind::kNotFound);
}

}  // namespace
}  // namespace warmpath::io
