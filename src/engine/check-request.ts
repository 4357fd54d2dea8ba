/** What a request must be before the engine starts on it. */
import { encodeSampling } from '../kernels/sample';
import { ContextFullError, InvalidRequestError } from './errors';
import { checkLogitBias } from './guidance';
import type { GenerateOptions } from './types';

/** @throws InvalidRequestError, SamplingParameterError, LogitBiasError, ContextFullError */
export function checkRequest(
  promptIds: readonly number[],
  options: GenerateOptions,
  vocabSize: number,
  contextLength: number,
): void {
  const { sampling, maxTokens } = options;
  if (promptIds.length === 0) throw new InvalidRequestError('the prompt has no tokens');
  const bad = promptIds.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (bad !== undefined) {
    throw new InvalidRequestError(`prompt token ${bad} is outside the vocabulary of ${vocabSize}`);
  }
  if (!Number.isInteger(maxTokens) || maxTokens < 1) {
    throw new InvalidRequestError(`maxTokens: expected a whole number of at least 1, got ${maxTokens}`);
  }
  encodeSampling(sampling);
  checkLogitBias(options, vocabSize);
  if (promptIds.length > contextLength) throw new ContextFullError(promptIds.length, contextLength);
}
