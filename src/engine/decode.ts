/** The decode loop: passes in flight ahead of the tokens that come back. */
import { noToken } from '../kernels/argmax';
import { NonFiniteLogitsError } from './errors';
import { mostTokens, type Reply } from './reply';
import { flightDepth } from './token-stream';
import type { FinishReason } from './types';

/** Keeps passes in flight and yields their tokens until something ends the reply. @throws NonFiniteLogitsError */
export async function* decode(reply: Reply): AsyncGenerator<number, FinishReason> {
  const { promptIds, options, runner, sampler, passes, draw, cached } = reply;
  const { maxTokens, stopTokenIds, signal, constraint, onLogprobs, topLogprobs = 0 } = options;
  const ops = [...passes.decode, ...draw];
  const stops = new Set(stopTokenIds);
  const most = mostTokens(reply);
  const start = performance.now();
  let issued = 1; // the prefill drew the first
  let depth = constraint ? 1 : 2;
  let unfed: number | null = null; // the last token, as long as no pass feeds it
  for (let received = 0; received < most; received++) {
    if (signal?.aborted) return 'cancelled';
    for (; issued < most && issued - received < depth; issued++) {
      if (constraint) sampler.writeMask(constraint);
      runner.submit(ops, 1, promptIds.length + issued, issued);
      if (unfed !== null) cached.push(unfed);
      unfed = null;
    }
    const id = await runner.nextToken();
    if (id === noToken) throw new NonFiniteLogitsError(promptIds.length + received - 1);
    if (runner.readsLogits) onLogprobs?.(await runner.nextLogprobs(id, topLogprobs));
    if (received + 1 === issued) unfed = id;
    else cached.push(id); // a pass that feeds it has been submitted
    constraint?.accept(id);
    yield id;
    if (stops.has(id) || constraint?.isComplete) return 'stop';
    if (!constraint) depth = flightDepth((performance.now() - start) / (received + 1));
  }
  return most < maxTokens ? 'context' : 'length';
}
