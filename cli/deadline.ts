/** A deadline for what a checkpoint brings along as code: template loops and regular expressions, which nothing else stops. */
import { createContext, Script } from 'node:vm';
import { type Guard, TokenizerTimeoutError } from '../src/tokenizer';

/** Generous: it is there for what never ends. */
export const tokenizerDeadlineMs = 10_000;

const script = new Script('work()');

/**
 * Runs work on this thread and stops it after `deadlineMs`, also within a regular expression's backtracking: V8 terminates
 * whatever runs when a script of its `vm` module is out of time.
 * @throws TokenizerTimeoutError, or what the work throws
 */
export function withDeadline(deadlineMs: number): Guard {
  return <T>(work: () => T): T => {
    try {
      return script.runInContext(createContext({ work }), { timeout: deadlineMs }) as T;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
      throw new TokenizerTimeoutError(deadlineMs);
    }
  };
}
