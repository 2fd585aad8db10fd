import type { RequireScope } from '../http/guard.ts'
import type { Gateway } from '../publication/gateway.ts'
import type { Presenter } from './presentation.ts'

/** Options of the routes of videos. */
export interface RouteOptions {
  gateway: Gateway
  present: Presenter
  requireScope: RequireScope
}
