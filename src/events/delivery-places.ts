/** Maximum numbers of deliveries in progress. */
export interface PlaceLimits {
  /** Shared by all endpoints, in addition to their reserved ones. */
  total: number
  /** Maximum for each endpoint. */
  perEndpoint: number
  /** Reserved for each endpoint. */
  reserved: number
}

export interface DeliveryPlaces {
  /**
   * Takes as many places as there are for an endpoint, perhaps none.
   * @param own places that the endpoint has
   */
  take(own: number): number
  giveBack(count: number): void
}

/**
 * Distributes the deliveries in progress over the endpoints: slow or dead endpoints use up the shared places, but not those
 * that are reserved for others.
 */
export function createDeliveryPlaces({ total, perEndpoint, reserved }: PlaceLimits): DeliveryPlaces {
  let taken = 0
  return {
    take(own) {
      const count = Math.max(0, reserved - own, Math.min(perEndpoint - own, total - taken))
      taken += count
      return count
    },
    giveBack(count) {
      taken -= count
    },
  }
}
