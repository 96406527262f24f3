/* A stub of TensorRT's libraries, so that the real Python bindings load where no TensorRT and no GPU is.

   It has the functions that the bindings link to. The runtime that it makes does nothing but remember what it is
   given, and calls it as TensorRT would: through the table of virtual functions that g++ and clang++ lay out. */

#include <stdint.h>

#define SLOTS 64
#define LOG 0            /* ILogger::log, before TensorRT 11 and TensorRT-RTX 1.5 */
#define LOG_LATER 4      /* getAPILanguage, getInterfaceInfo and two destructors come first */
#define ALLOCATE 4       /* IGpuAllocator: the same four come first */
#define DEALLOCATE 6
#define ALLOCATE_ASYNC 7
#define DEALLOCATE_ASYNC 8

struct object {
  void **functions;
  struct object *implementation;
};

static struct object *given;

static intptr_t remember(struct object *self, struct object *argument) {
  given = argument;
  return 1;
}

static void *make(void) {
  static void *functions[SLOTS];
  static struct object inner = {functions, 0}, outer = {functions, &inner};
  for (int slot = 0; slot < SLOTS; slot++) functions[slot] = (void *)remember;
  return &outer;
}

void *createInferRuntime_INTERNAL(struct object *logger, int version) {
  int is_rtx = version < 100000; /* 10400 is 1.4.0, 110100 is 11.1.0 */
  int slot = version >= (is_rtx ? 10500 : 110000) ? LOG_LATER : LOG;
  ((void (*)(void *, int32_t, const char *))logger->functions[slot])(logger, 1, "an error of the stub");
  return make();
}

void *stub_allocate(uint64_t size, uint64_t alignment, uint32_t flags) {
  return ((void *(*)(void *, uint64_t, uint64_t, uint32_t))given->functions[ALLOCATE])(given, size, alignment, flags);
}

int stub_deallocate(void *memory) {
  return ((_Bool (*)(void *, void *))given->functions[DEALLOCATE])(given, memory);
}

void *stub_allocate_async(uint64_t size, uint64_t alignment, uint32_t flags, void *stream) {
  return ((void *(*)(void *, uint64_t, uint64_t, uint32_t, void *))given->functions[ALLOCATE_ASYNC])(
      given, size, alignment, flags, stream);
}

int stub_deallocate_async(void *memory, void *stream) {
  return ((_Bool (*)(void *, void *, void *))given->functions[DEALLOCATE_ASYNC])(given, memory, stream);
}

void *createInferBuilder_INTERNAL(void *logger, int version) { return make(); }
void *createInferRefitter_INTERNAL(void *engine, void *logger, int version) { return 0; }
void *createNvOnnxParser_INTERNAL(void *network, void *logger, int version) { return 0; }
void *createNvOnnxParserRefitter_INTERNAL(void *refitter, void *logger, int version) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
void *getPluginRegistry(void) { return 0; }
void *getBuilderPluginRegistry(int capability) { return 0; }
_Bool initLibNvInferPlugins(void *logger, const char *space) { return logger != 0; }
