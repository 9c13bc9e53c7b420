# warmpath_embed(TARGET HEADER_NAMESPACE name=file ...): files as constants in the binary, so that one file is all there
# is to install. Makes <name> a std::string_view in namespace warmpath::NAMESPACE, declared in generated/<TARGET>_files.h.
function(warmpath_embed TARGET NAMESPACE)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/generated/${NAMESPACE}/embedded_files)
  set(pairs ${ARGN})
  set(files)
  foreach(pair ${pairs})
    string(REGEX REPLACE "^[^=]+=" "" file ${pair})
    list(APPEND files ${file})
  endforeach()
  add_custom_command(
    OUTPUT ${out}.cc ${out}.h
    COMMAND ${CMAKE_COMMAND} -DOUT=${out} -DNAMESPACE=${NAMESPACE} "-DPAIRS=${pairs}" -P ${CMAKE_SOURCE_DIR}/cmake/embed_files.cmake
    DEPENDS ${files} ${CMAKE_SOURCE_DIR}/cmake/embed_files.cmake
    VERBATIM)
  target_sources(${TARGET} PRIVATE ${out}.cc)
  target_include_directories(${TARGET} PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/generated)
endfunction()
