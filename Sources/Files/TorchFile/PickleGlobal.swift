import Torch

/// A function or class that a pickle may name, beside the classes that its reader allows. There are no
/// others: to name one is all that a hostile pickle needs (Python's documentation of `pickle`,
/// “Restricting Globals”).
enum PickleGlobal {
  case orderedDict
  case set
  case rebuildTensor
  case rebuildParameter
  case storage(DType)
  /// A class of the reader's, whose instances become `PickleValue.object`.
  case instance
  /// NumPy: an empty array, whose state follows; its class; an element type; a number, of which nothing is kept.
  case rebuildArray
  case arrayClass
  case arrayType
  /// Text as the bytes of Latin-1: how protocol 2 keeps bytes.
  case encode
  /// What training code leaves beside the weights: whatever is made of it is `PickleValue.none` here.
  case ignored

  /// By module and name, as a pickle writes them.
  static let allowed: [String: PickleGlobal] = [
    "collections OrderedDict": .orderedDict,
    "__builtin__ set": .set,
    "builtins set": .set,
    "torch._utils _rebuild_tensor_v2": .rebuildTensor,
    "torch._utils _rebuild_parameter": .rebuildParameter,
    "torch FloatStorage": .storage(.float32),
    "torch HalfStorage": .storage(.float16),
    "torch BFloat16Storage": .storage(.bfloat16),
    "torch DoubleStorage": .storage(.float64),
    "torch LongStorage": .storage(.int64),
    "torch IntStorage": .storage(.int32),
    "torch ShortStorage": .storage(.int16),
    "torch CharStorage": .storage(.int8),
    "torch ByteStorage": .storage(.uint8),
    "torch BoolStorage": .storage(.bool),
    "pytorch_lightning.callbacks.model_checkpoint ModelCheckpoint": .ignored,
    "numpy.core.multiarray scalar": .ignored,
    "numpy._core.multiarray scalar": .ignored,
    "numpy.core.multiarray _reconstruct": .rebuildArray,
    "numpy._core.multiarray _reconstruct": .rebuildArray,
    "numpy ndarray": .arrayClass,
    "numpy dtype": .arrayType,
    "_codecs encode": .encode,
  ]

  /// Modules of Python with functions that run commands or code, load it, or change files; what hostile pickles name.
  private static let modulesThatRun: Set<String> = [
    "os", "posix", "nt", "subprocess", "_posixsubprocess", "sys", "runpy", "importlib", "imp", "pkgutil",
    "zipimport",
    "pty", "commands", "popen2", "shutil", "webbrowser", "code", "codeop", "ctypes", "_ctypes", "cffi",
    "pickle",
    "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "operator", "_operator", "functools",
    "multiprocessing", "asyncio", "platform", "timeit", "trace", "cProfile", "profile", "pdb", "bdb",
    "doctest",
    "unittest", "pip", "setuptools", "distutils", "ensurepip", "venv", "io", "_io", "codecs", "socket",
  ]
  /// The builtins that only make values.
  private static let harmlessBuiltins: Set<String> = [
    "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "long", "object",
    "range",
    "set", "slice", "str", "tuple", "unicode", "xrange",
  ]
  /// Functions elsewhere that run what they are given.
  private static let functionsThatRun: Set<String> = [
    "eval", "exec", "execfile", "execstr", "compile", "runstring", "run", "system", "popen", "call", "spawn",
    "load",
    "loads", "hub", "import_module", "load_library", "load_module", "__import__", "getattr", "setattr",
    "apply",
    "FunctionType", "LambdaType", "CodeType", "_load_from_bytes",
  ]

  /// Whether Python could run code by a function or class that a pickle names: one of a module that can, or one that is
  /// called like such a function. Other names are classes that are merely not known here.
  static func couldRunCode(_ module: String, _ name: String) -> Bool {
    let top = module.prefix { $0 != "." }
    if ["builtins", "__builtin__"].contains(top) { return !harmlessBuiltins.contains(name) }
    // `STACK_GLOBAL` takes names with dots: “Popen.communicate” of a module, or a module's module.
    let parts = name.split(separator: ".").map(String.init)
    return modulesThatRun.contains(String(top)) || parts.contains { functionsThatRun.contains($0) }
      || parts.dropLast().contains { modulesThatRun.contains($0) }
  }

  /// The name of the storage class for `dtype`.
  static func storageName(_ dtype: DType) -> String {
    allowed.first { if case .storage(dtype) = $0.value { true } else { false } }?.key
      ?? "torch FloatStorage"
  }
}
