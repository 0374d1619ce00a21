import ArgumentParser
import Diffusion
import Evaluation
import Files
import Hub
import Imaging
import NeTI
import Torch

extension TorchError: CommandFailure {}
extension DiffusionError: CommandFailure {
  var exitCode: ExitCode { isWrongUsage ? .validationFailure : .failure }
}
extension ImagingError: CommandFailure {}
extension EvaluationError: CommandFailure {}
extension FileError: CommandFailure {}
extension HubError: CommandFailure {}
extension NeTIError: CommandFailure {
  var exitCode: ExitCode { isWrongUsage ? .validationFailure : .failure }
}
extension RunFolderInUse: CommandFailure {}
extension InterruptedRun: CommandFailure {}
extension LostProcess: CommandFailure {}
