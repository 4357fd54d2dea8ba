/** The `mergequant` command: one file per subcommand in cli/commands. */
import { Command } from 'commander';
import { register as bench } from './commands/bench';
import { register as evaluate } from './commands/eval';
import { register as generate } from './commands/generate';
import { register as inspect } from './commands/inspect';
import { register as merge } from './commands/merge';
import { register as plan } from './commands/plan';
import { register as ppl } from './commands/ppl';
import { register as prepare } from './commands/prepare';
import { register as serve } from './commands/serve';
import { register as verify } from './commands/verify';

const program = new Command('mergequant')
  .description('4-bit Llama models with static activation quantization (MergeQuant): prepare, check, run')
  .showHelpAfterError()
  .enablePositionalOptions(); // a subcommand's options are its own, also where its parent has some of that name
for (const register of [prepare, merge, evaluate, inspect, verify, plan, generate, serve, ppl, bench])
  register(program);

try {
  await program.parseAsync();
} catch (error) {
  const shown = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  process.stderr.write(`${process.env.MERGEQUANT_DEBUG && error instanceof Error ? error.stack : shown}\n`);
  process.exitCode = 1;
}
// Dawn keeps the event loop alive while a device exists.
process.exit();
