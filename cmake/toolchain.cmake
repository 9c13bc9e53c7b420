# Compiler flags, cache, linker and sanitizers: one place.
option(WARMPATH_TESTS "Build the tests" ON)
option(WARMPATH_BENCH "Build the benchmarks" OFF)
option(WARMPATH_FUZZ "Build the fuzzers (clang only)" OFF)
set(WARMPATH_SANITIZE "" CACHE STRING "asan (address and undefined), tsan, or empty")

find_program(WARMPATH_CCACHE ccache)
if(WARMPATH_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_C_COMPILER_LAUNCHER ${WARMPATH_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${WARMPATH_CCACHE})
endif()

# mold cannot read the link-time-optimisation objects of every compiler: it serves the builds without LTO.
find_program(WARMPATH_MOLD mold)
if(WARMPATH_MOLD AND NOT CMAKE_INTERPROCEDURAL_OPTIMIZATION)
  add_link_options(-fuse-ld=mold)
endif()

add_compile_options(-Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Werror)
# Fields left to their defaults are how options structs are meant to be filled.
add_compile_options(-Wno-missing-field-initializers)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  # libstdc++ 12 marks its own std::get_temporary_buffer, used by its std::stable_sort, as deprecated.
  add_compile_options(-Wno-missing-designated-field-initializers -Wno-deprecated-declarations)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # gcc 12 reports false positives of these two inside libstdc++ when it inlines.
  add_compile_options(-Wno-restrict -Wno-maybe-uninitialized -Wno-stringop-overflow -Wno-array-bounds)
endif()
add_compile_options(-fstack-protector-strong -fno-omit-frame-pointer)
add_compile_definitions(_GLIBCXX_ASSERTIONS)

if(WARMPATH_SANITIZE STREQUAL "asan")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all)
  add_link_options(-fsanitize=address,undefined)
elseif(WARMPATH_SANITIZE STREQUAL "tsan")
  add_compile_options(-fsanitize=thread)
  add_link_options(-fsanitize=thread)
elseif(NOT WARMPATH_SANITIZE STREQUAL "")
  message(FATAL_ERROR "WARMPATH_SANITIZE is asan, tsan or empty, not '${WARMPATH_SANITIZE}'")
endif()
