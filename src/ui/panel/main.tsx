import { render } from 'preact';
import '../styles/base.css';
import './panel-page.css';
import { PanelPage } from './panel-page';
import { start } from './state';

render(<PanelPage />, document.getElementById('app')!);
start();
