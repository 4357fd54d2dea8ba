import type { Command } from 'commander';
import { runMerge } from '../../src/quantize/assemble';
import { print } from '../text';

interface MergeFlags {
  readonly parts: readonly string[];
  readonly out: string;
  readonly force?: boolean;
  readonly greedy?: boolean;
}

/** `mergequant merge`: parts of `prepare --layers` become the artifact of one whole run, byte for byte. */
export function register(program: Command): void {
  program
    .command('merge')
    .description('join layer ranges made by `prepare --layers` into one artifact')
    .argument('<hf-checkpoint>', 'the folder that the parts were made from')
    .requiredOption('--parts <folder...>', 'all parts, in any order')
    .requiredOption('--out <folder>', 'the artifact; appears whole or not at all')
    .option('--greedy', "the artifact's generation_config.json asks for greedy decoding")
    .option('--force', 'replace the artifact that is there')
    .action(async (checkpoint: string, flags: MergeFlags) => {
      const { name, quant } = await runMerge({
        ...flags,
        checkpoint,
        onNotice: (text) => process.stderr.write(`${text}\n`),
      });
      print(`${flags.out}: ${name}, ${quant!.layers.length} layers from ${flags.parts.length} parts`);
    });
}
