import { useEffect } from 'preact/hooks';
import { droppedFiles } from './state/drop-folder';
import { takeFolder } from './state/folder-intake';

/**
 * Files dropped anywhere on the page count as a model's folder: without this the browser would leave the page and show them.
 * `onTake` hears of a drop that is being taken.
 */
export function usePageDrop(onTake: () => void): void {
  useEffect(() => {
    const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes('Files') ?? false;
    const over = (event: DragEvent) => {
      if (hasFiles(event)) event.preventDefault();
    };
    const drop = (event: DragEvent) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      takeFolder(droppedFiles(event.dataTransfer!));
      onTake();
    };
    addEventListener('dragover', over);
    addEventListener('drop', drop);
    return () => {
      removeEventListener('dragover', over);
      removeEventListener('drop', drop);
    };
  }, []);
}
